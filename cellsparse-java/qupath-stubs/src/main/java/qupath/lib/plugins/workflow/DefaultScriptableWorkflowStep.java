package qupath.lib.plugins.workflow;

/** A step that a script repeats. */
public class DefaultScriptableWorkflowStep implements WorkflowStep {
    private final String name;
    private final String script;

    public DefaultScriptableWorkflowStep(String name, String script) {
        this.name = name;
        this.script = script;
    }

    @Override
    public String getName() {
        return name;
    }

    public String getScript() {
        return script;
    }
}
