package qupath.lib.plugins.workflow;

/** A step of a history. */
public interface WorkflowStep {
    String getName();
}
