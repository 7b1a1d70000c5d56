package qupath.lib.plugins.workflow;

/** What was done with an image. */
public class Workflow {
    public void addStep(WorkflowStep step) {
        throw new UnsupportedOperationException();
    }
}
