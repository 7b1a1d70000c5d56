package io.github.cellsparse.qupath.work;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.github.cellsparse.Algorithm;
import io.github.cellsparse.TrainingProgress;
import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Requests to one algorithm of a server. */
final class Connection {
    private final URI url;
    /** Where a server that is not the original one tells of the model. */
    private final String model;
    private final Monitor monitor;
    private final HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(10))
            .build();

    Connection(Settings settings, Monitor monitor) throws Failure {
        this.monitor = monitor;
        url = url(settings.serverUrl, settings.algorithm);
        ModelStore.checkName(settings.model);
        model = "../models/" + settings.algorithm.id() + "/"
                + URLEncoder.encode(settings.model, StandardCharsets.UTF_8).replace("+", "%20");
    }

    /** The address of an algorithm: the one given, or that of the algorithm on the given server; it ends with a slash. */
    static URI url(String text, Algorithm algorithm) throws Failure {
        try {
            String whole = text.endsWith("/") ? text : text + "/";
            URI uri = URI.create(whole);
            if (uri.getHost() != null && List.of("http", "https").contains(uri.getScheme())) {
                return uri.getPath().equals("/") ? URI.create(whole + algorithm.id() + "/") : uri;
            }
        } catch (IllegalArgumentException error) {
            // Told below.
        }
        throw new Failure("'" + text + "' is not the address of a server; expected one such as http://localhost:8000/"
                + algorithm.id() + "/");
    }

    /** What messages call the server. */
    String host() {
        return url.getHost();
    }

    /**
     * What a server answers.
     *
     * @param note what it adds for people; may be empty
     */
    record Answer(String body, String note) {}

    /**
     * Sends a body and waits for the answer, or until the run is stopped: the server then stops too.
     *
     * @param path where to, seen from the address of the algorithm
     * @param training whether the server has steps to tell of
     * @throws Refused if the server answers with another status than 200
     */
    Answer send(String path, String body, boolean training) throws IOException, Failure {
        URI address = url.resolve(path);
        HttpRequest request = HttpRequest.newBuilder(address)
                .header("accept", "application/json")
                .header("Content-Type", "application/json; charset=utf-8")
                .POST(HttpRequest.BodyPublishers.ofString(body, StandardCharsets.UTF_8))
                .build();
        CompletableFuture<HttpResponse<String>> answer =
                client.sendAsync(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
        try {
            for (int waits = 1; ; waits++) {
                try {
                    return accepted(answer.get(100, TimeUnit.MILLISECONDS), address);
                } catch (TimeoutException stillWorking) {
                    monitor.check();
                    if (training && waits % 10 == 0) {
                        askForProgress();
                    }
                }
            }
        } catch (ExecutionException error) {
            throw new Failure("the server " + address + " cannot be reached (" + error.getCause()
                    + "); start it with 'cellsparse serve', correct the Server URL, or clear it to work in QuPath", error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new Stopped();
        } finally {
            // Closes the connection of a request that is still under way; does nothing otherwise.
            answer.cancel(true);
        }
    }

    private static Answer accepted(HttpResponse<String> answer, URI address) throws Refused {
        if (answer.statusCode() != 200) {
            throw new Refused(address, answer.statusCode(), answer.body());
        }
        return new Answer(answer.body(), answer.headers().firstValue("x-cellsparse-note").orElse(""));
    }

    /** The percentiles of a slide that become 0 and 1 for the model; the usual ones if the server does not tell. */
    double[] percentiles() throws Stopped {
        try {
            JsonObject scale = ask("").getAsJsonObject("model").getAsJsonObject("normalization");
            return new double[] {scale.get("pmin").getAsDouble(), scale.get("pmax").getAsDouble()};
        } catch (RuntimeException error) {
            // A new model, or the original server.
            return new double[] {1, 99.8};
        }
    }

    /** Shows the step that the server is at. The original server tells nothing, which is no failure. */
    private void askForProgress() throws Stopped {
        JsonObject state = ask("/progress");
        try {
            if (state.has("progress") && state.get("progress").isJsonObject()) {
                JsonObject step = state.getAsJsonObject("progress");
                monitor.step(new TrainingProgress(step.get("step").getAsLong(), step.get("total_steps").getAsLong(),
                        step.get("epoch").getAsLong(), step.get("loss").getAsDouble(), Map.of(), OptionalDouble.empty(),
                        step.get("learning_rate").getAsDouble(), step.get("elapsed").getAsDouble(),
                        step.get("remaining").getAsDouble()));
            }
        } catch (RuntimeException error) {
            // Progress is a courtesy; the answer to the request itself decides.
        }
    }

    /** What the server tells of the model; nothing where it does not know, as the original server. */
    private JsonObject ask(String about) throws Stopped {
        HttpRequest request = HttpRequest.newBuilder(url.resolve(model + about))
                .header("accept", "application/json")
                .timeout(Duration.ofSeconds(2))
                .build();
        try {
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
            if (answer.statusCode() == 200) {
                return JsonParser.parseString(answer.body()).getAsJsonObject();
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new Stopped();
        } catch (IOException | RuntimeException error) {
            // What is told here is a courtesy; the answer to the request for work decides.
        }
        return new JsonObject();
    }
}
