package io.github.cellsparse.qupath.work;

import com.google.gson.JsonPrimitive;
import io.github.cellsparse.Algorithm;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;

/**
 * Work done by a server that speaks the protocol of cellsparse-api 0.2: the bodies have its keys in its order. What is not
 * part of that protocol is asked for in ways that the original server ignores: exact outlines in the query; the common scale
 * of all parts of a slide, and settings that differ from the defaults, in fields of their own. Only several labelled regions
 * at once are a form that it refuses; they are then sent one by one.
 */
final class RemoteWork {
    private static final String QUERY = "?outline=exact";

    private final Settings settings;
    private final Monitor monitor;
    private final Connection server;

    RemoteWork(Settings settings, Monitor monitor) throws Failure {
        this.settings = settings;
        this.monitor = monitor;
        server = new Connection(settings, monitor);
    }

    /** A labelled region. */
    record Region(Pictures.Raw picture, LabelMap labels) {}

    /** The scale of a slide for the model on the server. */
    Intensities intensities(Slide slide) throws IOException, Failure {
        double[] percentiles = server.percentiles();
        return Intensities.measure(
                slide, settings.downsample(slide), settings.channels(slide), percentiles[0], percentiles[1]);
    }

    /**
     * Trains on regions.
     *
     * @param eval whether the objects of the region, which is then the only one, are wanted too
     */
    List<Found> train(List<Region> regions, boolean eval) throws IOException, Failure {
        String about = "Training '" + settings.model + "' on " + server.host();
        Pictures pictures = Pictures.of(regions.stream().map(Region::picture).toList());
        List<String> images = new ArrayList<>();
        for (int i = 0; i < regions.size(); i++) {
            images.add(image(pictures.files().get(i), base64(Png.labels(regions.get(i).labels()))));
        }
        monitor.message(about);
        try {
            String whole = images.size() == 1 ? images.get(0) : "\"images\":[{" + String.join("},{", images) + "}]";
            Connection.Answer answer = server.send(QUERY, body(whole, pictures, true, eval, settings.serverSteps()), true);
            warn(answer.note());
            return eval ? placed(answer.body()) : List.of();
        } catch (Refused refusal) {
            if (images.size() == 1 || !refusal.misses("b64img")) {
                throw refusal;
            }
        } catch (Stopped stop) {
            throw stoppedThere();
        }
        inTurn(images, pictures, about);
        return List.of();
    }

    /** Trains on one region after the other, each with its share of the steps; the model goes on from one to the next. */
    private void inTurn(List<String> images, Pictures pictures, String about) throws IOException, Failure {
        int count = images.size();
        monitor.warn("the server takes one image at a time, so the " + count + " parts to learn from were learned one after the "
                + "other; cells of the first ones may be learned less well");
        try {
            for (int i = 0; i < count; i++) {
                monitor.check();
                monitor.message(about + ", part " + (i + 1) + " of " + count);
                long steps = (long) settings.serverSteps() * (i + 1) / count - (long) settings.serverSteps() * i / count;
                server.send(QUERY, body(images.get(i), pictures, true, false, (int) Math.max(1, steps)), true);
            }
        } catch (Stopped stop) {
            throw stoppedThere();
        }
    }

    private static Stopped stoppedThere() {
        return new Stopped("Stopped. The server keeps the steps that it has done by then; the original server does them all.");
    }

    /** What finds the objects of tiles of a slide. */
    Segmenter segmenter(Slide slide) throws IOException, Failure {
        int[] channels = settings.channels(slide);
        Intensities intensities = intensities(slide);
        return part -> {
            Pictures picture = Pictures.of(List.of(Pictures.Raw.of(part.picture(), channels, intensities)));
            String image = image(picture.files().get(0), null);
            try {
                Connection.Answer answer = server.send(QUERY, body(image, picture, false, true, settings.serverSteps()), false);
                List<Found> found = placed(answer.body());
                if (found.isEmpty()) {
                    refuseUntrained(answer.note());
                }
                warn(answer.note());
                return found;
            } catch (Refused refusal) {
                refuseUntrained(refusal.reason());
                throw refusal;
            }
        };
    }

    /** A model that is not there finds nothing; what was found before must not be replaced by that. */
    private static void refuseUntrained(String reason) throws Failure {
        if (reason.startsWith("there is no model") || reason.startsWith("the first training of the model")) {
            throw new Failure(reason);
        }
    }

    /** The objects of an answer. A server that does not know the smallest probability may still tell that of each object. */
    private List<Found> placed(String answer) throws Failure {
        List<Found> found = Answers.features(answer);
        if (settings.algorithm != Algorithm.STARDIST) {
            return found;
        }
        return found.stream().filter(one -> !(one.probability() < settings.probability)).toList();
    }

    private void warn(String note) {
        if (!note.isEmpty()) {
            monitor.warn(note);
        }
    }

    /** Forgets the model on the server. */
    void reset() throws IOException, Failure {
        server.send("reset/", "{\"modelname\":" + new JsonPrimitive(settings.model) + "}", false);
    }

    private static String image(byte[] picture, String labels) {
        return "\"b64img\":\"" + base64(picture) + "\",\"b64lbl\":" + (labels == null ? "null" : "\"" + labels + "\"");
    }

    private String body(String images, Pictures pictures, boolean train, boolean eval, int steps) {
        StringBuilder body = new StringBuilder("{\"modelname\":").append(new JsonPrimitive(settings.model))
                .append(',').append(images)
                .append(",\"train\":").append(train)
                .append(",\"eval\":").append(eval)
                .append(",\"epochs\":").append(train && settings.algorithm == Algorithm.CELLPOSE ? 5 : 1)
                .append(",\"batchsize\":").append(settings.serverBatchSize())
                .append(",\"steps\":").append(steps);
        if (settings.serverPatchSize() != 224) {
            body.append(",\"trainpatch\":").append(settings.serverPatchSize());
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
        if (train && settings.seed != 0) {
            body.append(",\"seed\":").append(settings.seed);
        }
        if (eval && settings.probability > 0 && settings.algorithm != Algorithm.CELLPOSE) {
            body.append(",\"prob_thresh\":").append(settings.probability);
        }
        if (eval && settings.diameter > 0 && settings.algorithm == Algorithm.CELLPOSE) {
            body.append(",\"diameter\":").append(settings.diameter);
        }
        // Without spaces, as all the rest.
        body.append(",\"low\":").append(Arrays.toString(pictures.low()).replace(" ", ""))
                .append(",\"high\":").append(Arrays.toString(pictures.high()).replace(" ", ""));
        return body.append('}').toString();
    }

    private static String base64(byte[] bytes) {
        return Base64.getEncoder().encodeToString(bytes);
    }
}
