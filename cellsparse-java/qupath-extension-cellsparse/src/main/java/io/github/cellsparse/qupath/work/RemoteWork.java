package io.github.cellsparse.qupath.work;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import io.github.cellsparse.Algorithm;
import io.github.cellsparse.TrainingProgress;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Work done by a server that speaks the protocol of cellsparse-api 0.2: the bodies have its keys in its order. What is not
 * part of that protocol is asked for only where it is needed: exact outlines in the query, which the original server ignores;
 * several labelled regions at once; settings that differ from the defaults.
 */
final class RemoteWork {
    private final Settings settings;
    private final URI url;
    private final Monitor monitor;
    private final HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .connectTimeout(Duration.ofSeconds(10))
            .build();

    RemoteWork(Settings settings, Monitor monitor) throws Failure {
        this.settings = settings;
        this.monitor = monitor;
        url = url(settings.serverUrl, settings.algorithm);
        ModelStore.checkName(settings.model);
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

    /** A labelled region as the server takes it. */
    record Region(String image, String labels) {
        static Region of(Part part, int[] channels, LabelMap labels) throws IOException, Failure {
            return new Region(base64(Png.picture(part.picture(), channels)), base64(Png.labels(labels)));
        }
    }

    /**
     * Trains on regions.
     *
     * @param eval whether the objects of the region, which is then the only one, are wanted too
     */
    List<Found> train(List<Region> regions, boolean eval) throws IOException, Failure {
        monitor.message("Training '" + settings.model + "' on " + url.getHost());
        int epochs = settings.algorithm == Algorithm.CELLPOSE ? 5 : 1;
        String images;
        if (regions.size() == 1) {
            images = "\"b64img\":\"" + regions.get(0).image() + "\",\"b64lbl\":\"" + regions.get(0).labels() + "\"";
        } else {
            StringBuilder all = new StringBuilder("\"images\":[");
            for (Region region : regions) {
                all.append(all.length() > 10 ? "," : "").append("{\"b64img\":\"").append(region.image())
                        .append("\",\"b64lbl\":\"").append(region.labels()).append("\"}");
            }
            images = all.append(']').toString();
        }
        String body = body(images, true, eval, epochs);
        String answer = send(url.resolve("?outline=exact"), body, true);
        return eval ? Answers.features(answer) : List.of();
    }

    /** What finds the objects of tiles. */
    Segmenter segmenter(int[] channels) {
        return part -> {
            String image = "\"b64img\":\"" + base64(Png.picture(part.picture(), channels)) + "\",\"b64lbl\":null";
            return Answers.features(send(url.resolve("?outline=exact"), body(image, false, true, 1), false));
        };
    }

    /** Forgets the model on the server. */
    void reset() throws IOException, Failure {
        send(url.resolve("reset/"), "{\"modelname\":" + new JsonPrimitive(settings.model) + "}", false);
    }

    private String body(String images, boolean train, boolean eval, int epochs) {
        StringBuilder body = new StringBuilder("{\"modelname\":").append(new JsonPrimitive(settings.model))
                .append(',').append(images)
                .append(",\"train\":").append(train)
                .append(",\"eval\":").append(eval)
                .append(",\"epochs\":").append(epochs)
                .append(",\"batchsize\":").append(settings.batchSize)
                .append(",\"steps\":").append(settings.steps);
        if (settings.patchSize != 224) {
            body.append(",\"trainpatch\":").append(settings.patchSize);
        }
        if (settings.learningRate > 0) {
            body.append(",\"lr\":").append(settings.learningRate);
        }
        if (settings.minArea != 10) {
            body.append(",\"minarea\":").append(settings.minArea);
        }
        if (settings.simplify > 0) {
            body.append(",\"simplify_tol\":").append(settings.simplify);
        }
        return body.append('}').toString();
    }

    /** Sends a body and waits for the answer, or until the run is stopped: the server then stops too. */
    private String send(URI address, String body, boolean training) throws IOException, Failure {
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
                    return text(answer.get(100, TimeUnit.MILLISECONDS), address);
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

    private String text(HttpResponse<String> answer, URI address) throws Failure {
        if (answer.statusCode() != 200) {
            throw new Failure("the server " + address + " answered " + answer.statusCode() + ": "
                    + Answers.reason(answer.body()));
        }
        answer.headers().firstValue("x-cellsparse-note").ifPresent(monitor::warn);
        return answer.body();
    }

    /** Shows the step that the server is at. The original server tells nothing, which is no failure. */
    private void askForProgress() throws Stopped {
        String name = java.net.URLEncoder.encode(settings.model, StandardCharsets.UTF_8).replace("+", "%20");
        URI address = url.resolve("../models/" + settings.algorithm.id() + "/" + name + "/progress");
        HttpRequest request = HttpRequest.newBuilder(address)
                .header("accept", "application/json")
                .timeout(Duration.ofSeconds(2))
                .build();
        try {
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString(StandardCharsets.UTF_8));
            JsonObject state = JsonParser.parseString(answer.body()).getAsJsonObject();
            if (answer.statusCode() == 200 && state.has("progress") && state.get("progress").isJsonObject()) {
                JsonObject step = state.getAsJsonObject("progress");
                monitor.step(new TrainingProgress(step.get("step").getAsLong(), step.get("total_steps").getAsLong(),
                        step.get("epoch").getAsLong(), step.get("loss").getAsDouble(), Map.of(), OptionalDouble.empty(),
                        step.get("learning_rate").getAsDouble(), step.get("elapsed").getAsDouble(),
                        step.get("remaining").getAsDouble()));
            }
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new Stopped();
        } catch (IOException | RuntimeException error) {
            // Progress is a courtesy; the answer to the request itself decides.
        }
    }

    private static String base64(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }
}
