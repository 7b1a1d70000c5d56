package io.github.cellsparse.qupath.work;

import java.net.URI;

/** A server's answer that is not 200. */
final class Refused extends Failure {
    private static final long serialVersionUID = 1L;

    private final int status;
    private final String body;

    Refused(URI address, int status, String body) {
        super("the server " + address + " answered " + status + ": " + Answers.reason(body));
        this.status = status;
        this.body = body;
    }

    int status() {
        return status;
    }

    /** What the server says. */
    String reason() {
        return Answers.reason(body);
    }

    /** Whether the server cannot do without a field of the body that was not sent. */
    boolean misses(String field) {
        return status == 422 && Answers.misses(body, field);
    }
}
