package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpServer;
import io.github.cellsparse.Algorithm;
import io.github.cellsparse.Model;
import io.github.cellsparse.ModelOptions;
import java.awt.Rectangle;
import java.awt.geom.Rectangle2D;
import java.awt.image.BufferedImage;
import java.awt.image.DataBuffer;
import java.io.ByteArrayInputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.function.Function;
import java.util.stream.IntStream;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Work done by a server: what is sent, and what is made of the answers. */
class RemoteWorkTest {
    /** An answer of the original server: a square from pixel centre 9.5 to 19.5, and an object without a ring. */
    private static final String LITERAL = "[{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\",\"coordinates\":"
            + "[[[9.5,9.5],[19.5,9.5],[19.5,19.5],[9.5,19.5],[9.5,9.5]]]},\"properties\":{\"object_idx\":0,\"label\":\"object\"}},"
            + "{\"type\":\"Feature\",\"geometry\":{\"type\":\"Polygon\",\"coordinates\":[[]]},\"properties\":"
            + "{\"object_idx\":1,\"label\":\"object\"}}]";

    @TempDir
    Path folder;

    /** An answer. */
    private record Reply(int status, String note, String body) {}

    /** A server that notes requests and answers each by its body. */
    private static final class Noting implements AutoCloseable {
        final List<String> requests = new ArrayList<>();
        final CountDownLatch asked = new CountDownLatch(1);
        volatile CountDownLatch hold = new CountDownLatch(0);
        private final HttpServer server;

        Noting(int status, String answer) throws Exception {
            this(body -> new Reply(status, "", answer));
        }

        Noting(Function<String, Reply> answers) throws Exception {
            server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
            server.setExecutor(Executors.newCachedThreadPool(task -> {
                Thread thread = new Thread(task);
                thread.setDaemon(true);
                return thread;
            }));
            server.createContext("/", exchange -> {
                byte[] body = exchange.getRequestBody().readAllBytes();
                if (exchange.getRequestMethod().equals("POST")) {
                    requests.add(exchange.getRequestURI() + " " + exchange.getRequestHeaders().getFirst("accept") + " "
                            + exchange.getRequestHeaders().getFirst("content-type") + " "
                            + new String(body, StandardCharsets.UTF_8));
                    asked.countDown();
                    try {
                        hold.await();
                    } catch (InterruptedException error) {
                        Thread.currentThread().interrupt();
                    }
                }
                Reply reply = answers.apply(new String(body, StandardCharsets.UTF_8));
                byte[] bytes = reply.body.getBytes(StandardCharsets.UTF_8);
                if (!reply.note.isEmpty()) {
                    exchange.getResponseHeaders().set("x-cellsparse-note", reply.note);
                }
                exchange.sendResponseHeaders(reply.status, bytes.length);
                exchange.getResponseBody().write(bytes);
                exchange.close();
            });
            server.start();
        }

        /** The fields of a request. */
        JsonObject sent(int request) {
            String text = requests.get(request);
            return JsonParser.parseString(text.substring(text.indexOf('{'))).getAsJsonObject();
        }

        String url() {
            return "http://127.0.0.1:" + server.getAddress().getPort();
        }

        @Override
        public void close() {
            hold.countDown();
            server.stop(0);
        }
    }

    private static Settings.Builder settings(String url, Algorithm algorithm) {
        return Settings.builder(algorithm).serverUrl(url);
    }

    private Work work(Settings settings) {
        return new Work(settings, new ModelStore(folder), new Watch());
    }

    @Test
    void theBodyIsThatOfTheOriginalExtension() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_USHORT).disc(10, 10, 10);
        for (Algorithm algorithm : Algorithm.values()) {
            try (Noting server = new Noting(200, LITERAL)) {
                Settings settings = settings(server.url() + "/" + algorithm.id() + "/", algorithm).build();
                List<Found> found = work(settings).trainAndPredict(List.of(slide.subject(1)), slide, List.of(), () -> {});
                assertEquals(1, server.requests.size(), "one request does both");
                String expected = "/" + algorithm.id() + "/?outline=exact application/json application/json; charset=utf-8 "
                        + "{\"modelname\":\"default\",\"b64img\":\"IMAGE\",\"b64lbl\":\"LABELS\",\"train\":true,\"eval\":true,"
                        + "\"epochs\":" + (algorithm == Algorithm.CELLPOSE ? 5 : 1) + ",\"batchsize\":8,\"steps\":200,"
                        + scale(slide) + "}";
                assertEquals(expected, server.requests.get(0).replaceAll("b64img\":\"[^\"]+", "b64img\":\"IMAGE")
                        .replaceAll("b64lbl\":\"[^\"]+", "b64lbl\":\"LABELS"));
                // Pixel centres at whole numbers become corners, and what has no ring is nothing.
                assertEquals(1, found.size());
                assertEquals(new Rectangle2D.Double(10, 10, 10, 10), found.get(0).shape().getBounds2D());
                assertTrue(Double.isNaN(found.get(0).probability()));

                JsonObject sent = server.sent(0);
                BufferedImage image = picture(sent.get("b64img").getAsString());
                BufferedImage read = slide.read(1, 0, 0, 60, 40);
                assertEquals(DataBuffer.TYPE_USHORT, image.getSampleModel().getDataType());
                assertArrayEquals(samples(read), samples(image));
                int[] labels = samples(picture(sent.get("b64lbl").getAsString()));
                int[] drawn = LabelMap.draw(slide.drawings(1), Part.read(slide, new Rectangle(60, 40), 1)).values();
                assertArrayEquals(Arrays.stream(drawn).map(value -> value + 1).toArray(), labels);
            }
        }
    }

    @Test
    void inferenceAndResetAndExtrasAreSent() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 3, DataBuffer.TYPE_BYTE).disc(10, 10, 10);
        try (Noting server = new Noting(200, LITERAL)) {
            Settings settings = settings(server.url(), Algorithm.ELEPHANT).model("b\"c").minArea(4).build();
            assertThrows(Failure.class, () -> work(settings).predict(slide, List.of()), "the name is refused before it is sent");
            Settings plain = settings(server.url(), Algorithm.ELEPHANT).minArea(4).patchSize(64).learningRate(0.01).build();
            assertEquals(1, work(plain).predict(slide, List.of()).size());
            assertTrue(work(plain).reset());
            assertEquals("/elephant/?outline=exact application/json application/json; charset=utf-8 {\"modelname\":\"default\","
                    + "\"b64img\":\"IMAGE\",\"b64lbl\":null,\"train\":false,\"eval\":true,\"epochs\":1,\"batchsize\":8,"
                    + "\"steps\":200,\"trainpatch\":64,\"lr\":0.01,\"minarea\":4.0," + scale(slide) + "}",
                    server.requests.get(0).replaceAll("b64img\":\"[^\"]+", "b64img\":\"IMAGE"));
            assertTrue(server.requests.get(1).startsWith("/elephant/reset/ "), server.requests.get(1));
            assertTrue(server.requests.get(1).endsWith(" {\"modelname\":\"default\"}"));
            assertEquals(2, server.requests.size());
        }
    }

    /** The last fields of a body: the scale of the whole slide, as in process. */
    private static String scale(DrawnSlide slide) throws Exception {
        int[] channels = IntStream.range(0, slide.channels()).toArray();
        Intensities intensities = Intensities.measure(slide, 1, channels, 1, 99.8);
        return ("\"low\":" + Arrays.toString(intensities.low()) + ",\"high\":" + Arrays.toString(intensities.high()))
                .replace(" ", "");
    }

    @Test
    void settingsThatDifferFromTheDefaultsAreSent() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_BYTE).disc(10, 10, 10);
        for (Algorithm algorithm : Algorithm.values()) {
            try (Noting server = new Noting(200, LITERAL)) {
                Settings settings = settings(server.url(), algorithm).probability(0.25).diameter(30).seed(7).build();
                work(settings).trainAndPredict(List.of(slide.subject(1)), slide, List.of(), () -> {});
                work(settings).predict(slide, List.of());
                boolean cellpose = algorithm == Algorithm.CELLPOSE;
                for (int i = 0; i < 2; i++) {
                    JsonObject sent = server.sent(i);
                    assertEquals(!cellpose, sent.has("prob_thresh") && sent.get("prob_thresh").getAsDouble() == 0.25);
                    assertEquals(cellpose, sent.has("diameter") && sent.get("diameter").getAsDouble() == 30);
                    assertEquals(i == 0, sent.has("seed") && sent.get("seed").getAsLong() == 7);
                }
            }
        }
        // A server that does not know the smallest probability tells those of its objects, or tells none.
        String told = LITERAL.replace("\"label\":\"object\"", "\"measurements\":{\"probability\":0.4}");
        try (Noting server = new Noting(200, told)) {
            for (double smallest : new double[] {0.3, 0.5}) {
                Settings settings = settings(server.url(), Algorithm.STARDIST).probability(smallest).build();
                assertEquals(smallest < 0.4 ? 1 : 0, work(settings).predict(slide, List.of()).size());
            }
        }
    }

    @Test
    void allPartsOfARequestHaveOneScale() throws Exception {
        DrawnSlide real = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_FLOAT).disc(10, 10, 10);
        DrawnSlide bright = new DrawnSlide(50, 50, 1, DataBuffer.TYPE_USHORT).disc(20, 20, 12).disc(2, 2, 9);
        try (Noting server = new Noting(200, LITERAL)) {
            Work work = work(settings(server.url(), Algorithm.STARDIST).build());
            work.predict(real, List.of());
            work.train(List.of(real.subject(1), bright.subject(2)));
            assertScaled(real, server.sent(0), server.sent(0));
            JsonObject both = server.sent(1);
            assertScaled(real, both, both.getAsJsonArray("images").get(0).getAsJsonObject());
            assertScaled(bright, both, both.getAsJsonArray("images").get(1).getAsJsonObject());
        }
    }

    /** What a server makes of a picture is what is made of it in process. */
    private static void assertScaled(DrawnSlide slide, JsonObject body, JsonObject image) throws Exception {
        float low = body.getAsJsonArray("low").get(0).getAsFloat();
        float high = body.getAsJsonArray("high").get(0).getAsFloat();
        int[] sent = samples(picture(image.get("b64img").getAsString()));
        BufferedImage read = slide.read(1, 0, 0, slide.width(), slide.height());
        float[] wanted = Intensities.measure(slide, 1, new int[] {0}, 1, 99.8)
                .apply(Samples.of(read, new int[] {0})).values();
        assertEquals(wanted.length, sent.length);
        for (int i = 0; i < sent.length; i++) {
            assertEquals(wanted[i], (sent[i] - low) / (high - low), 1e-4);
        }
    }

    @Test
    void aServerOfOneImageIsGivenThePartsInTurn() throws Exception {
        DrawnSlide one = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_BYTE).disc(10, 10, 10);
        DrawnSlide two = new DrawnSlide(70, 40, 1, DataBuffer.TYPE_BYTE).disc(20, 10, 10);
        String missing = "{\"detail\":[{\"loc\":[\"body\",\"b64img\"],\"msg\":\"field required\","
                + "\"type\":\"value_error.missing\"}]}";
        Function<String, Reply> original =
                body -> body.contains("\"images\"") ? new Reply(422, "", missing) : new Reply(200, "", LITERAL);
        try (Noting server = new Noting(original)) {
            Watch watch = new Watch();
            Settings settings = settings(server.url(), Algorithm.STARDIST).steps(7).build();
            new Work(settings, new ModelStore(folder), watch).train(List.of(one.subject(1), two.subject(1), one.subject(1)));
            assertEquals(4, server.requests.size());
            assertEquals(List.of(2, 2, 3), IntStream.of(1, 2, 3).mapToObj(i -> server.sent(i).get("steps").getAsInt()).toList());
            assertEquals(70, picture(server.sent(2).get("b64img").getAsString()).getWidth());
            assertTrue(server.sent(3).get("train").getAsBoolean() && !server.sent(3).get("eval").getAsBoolean());
            assertEquals(1, watch.warnings.size());
            Settings single = settings(server.url(), Algorithm.STARDIST).steps(1).build();
            work(single).train(List.of(one.subject(1), two.subject(1)));
            assertEquals(1, server.sent(5).get("steps").getAsInt());
            assertEquals(1, server.sent(6).get("steps").getAsInt());
        }
        // Another refusal of a field is none of the form.
        try (Noting server = new Noting(422, missing.replace("\"b64img\"", "\"images\",0,\"b64img\""))) {
            Work work = work(settings(server.url(), Algorithm.STARDIST).build());
            assertThrows(Failure.class, () -> work.train(List.of(one.subject(1), two.subject(1))));
            assertEquals(1, server.requests.size());
        }
    }

    @Test
    void aModelThatIsNotThereIsAFailure() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_BYTE).disc(10, 10, 10);
        String note = "there is no model 'default' of stardist yet; train it first";
        for (Reply reply : List.of(new Reply(200, note, "[]"), new Reply(404, "", "{\"detail\":\"" + note + "\"}"))) {
            try (Noting server = new Noting(body -> reply)) {
                Work work = work(settings(server.url(), Algorithm.STARDIST).build());
                assertEquals(note, assertThrows(Failure.class, () -> work.predict(slide, List.of())).getMessage());
            }
        }
        try (Noting server = new Noting(body -> new Reply(200, "something else", "[]"))) {
            Watch watch = new Watch();
            new Work(settings(server.url(), Algorithm.STARDIST).build(), new ModelStore(folder), watch)
                    .predict(slide, List.of());
            assertEquals(List.of("something else"), watch.warnings);
        }
    }

    @Test
    void answersOfAnyFormAreRead() throws Exception {
        String geometry = "{\"type\":\"Polygon\",\"coordinates\":[[[0,0],[9,0],[9,9],[0,0]]]}";
        for (String properties : List.of(",\"properties\":null", "", ",\"properties\":{\"measurements\":null}")) {
            assertEquals(1, Answers.features("[{\"geometry\":" + geometry + properties + "}]").size());
        }
        String line = "{\"type\":\"Polygon\",\"coordinates\":[[[0],[9],[9],[0]]]}";
        for (String unusable : List.of("{\"geometry\":null}", "{\"geometry\":" + line + "}", "null", "{\"geometry\":[]}",
                "{\"geometry\":" + geometry + ",\"properties\":3}", "{\"geometry\":{\"type\":null,\"coordinates\":null}}")) {
            String message = assertThrows(Failure.class, () -> Answers.features("[" + unusable + "]"), unusable).getMessage();
            assertTrue(message.contains("not a list of GeoJSON features"), message);
        }
    }

    @Test
    void refusalsAndAbsentServersAreExplained() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_BYTE).disc(10, 10, 10);
        String[][] answers = {
            {"500", "Internal Server Error", "answered 500: Internal Server Error"},
            {"422", "{\"detail\":[{\"loc\":[\"body\",\"b64lbl\"],\"msg\":\"no cells\",\"type\":\"x\"}]}", "b64lbl: no cells"},
            {"404", "{\"detail\":\"train it first\"}", "train it first"},
            {"200", "<html>", "not a list of GeoJSON features"},
            {"200", "[{\"type\":\"Feature\"}]", "not a list of GeoJSON features"},
        };
        for (String[] answer : answers) {
            try (Noting server = new Noting(Integer.parseInt(answer[0]), answer[1])) {
                Settings settings = settings(server.url(), Algorithm.STARDIST).build();
                String message = assertThrows(Failure.class, () -> work(settings).predict(slide, List.of())).getMessage();
                assertTrue(message.contains(answer[2]), message);
            }
        }
        String absent = assertThrows(Failure.class, () -> work(settings("http://127.0.0.1:1/", Algorithm.STARDIST).build())
                .predict(slide, List.of())).getMessage();
        assertTrue(absent.contains("cellsparse serve") && absent.contains("Server URL"), absent);
        for (String url : List.of("localhost:8000", "ftp://x/", "http://", "a b")) {
            assertThrows(Failure.class, () -> Connection.url(url, Algorithm.STARDIST), url);
        }
        assertEquals("http://h:1/stardist/", Connection.url("http://h:1", Algorithm.STARDIST).toString());
        assertEquals("https://h/x/", Connection.url("https://h/x", Algorithm.STARDIST).toString());
        DrawnSlide two = new DrawnSlide(60, 40, 2, DataBuffer.TYPE_USHORT).disc(10, 10, 10);
        String channels = assertThrows(Failure.class, () -> work(settings("http://127.0.0.1:1/", Algorithm.STARDIST).build())
                .predict(two, List.of())).getMessage();
        assertTrue(channels.contains("one channel or three"), channels);
    }

    @Test
    void aStopLeavesTheServer() throws Exception {
        DrawnSlide slide = new DrawnSlide(60, 40, 1, DataBuffer.TYPE_FLOAT).disc(10, 10, 10);
        try (Noting server = new Noting(200, LITERAL)) {
            server.hold = new CountDownLatch(1);
            Watch watch = new Watch();
            Settings settings = settings(server.url(), Algorithm.STARDIST).build();
            Thread stopper = new Thread(() -> {
                try {
                    server.asked.await();
                } catch (InterruptedException error) {
                    Thread.currentThread().interrupt();
                }
                watch.token().cancel();
            });
            stopper.start();
            Stopped stopped = assertThrows(Stopped.class, () -> new Work(settings, new ModelStore(folder), watch)
                    .trainAndPredict(List.of(slide.subject(1)), slide, List.of(), () -> {}));
            assertTrue(stopped.getMessage().contains("The server keeps"), stopped.getMessage());
            stopper.join();
        }
    }

    @Test
    void cellsparseServeTrainsAndSegments() throws Exception {
        try (Serve server = new Serve(folder)) {
            String url = server.url();
            DrawnSlide slide = new DrawnSlide(200, 200, 3, DataBuffer.TYPE_BYTE).grid(44, 16);
            // The smallest real training that a server takes: it must answer objects with probabilities, in place.
            Settings settings = Settings.builder(Algorithm.STARDIST).serverUrl(url).steps(20).batchSize(1).patchSize(64)
                    .learningRate(0.002).build();
            Watch watch = new Watch();
            List<Found> found = new Work(settings, new ModelStore(folder), watch)
                    .trainAndPredict(List.of(slide.subject(8)), slide, List.of(), () -> {});
            assertEquals(List.of(), watch.warnings);
            for (Found one : found) {
                assertTrue(one.probability() > 0 && one.probability() <= 1);
                Rectangle2D box = one.shape().getBounds2D();
                assertTrue(box.getMinX() == Math.rint(box.getMinX()), "outlines run along the edges of pixels: " + box);
            }
            // Two images at once, then tiles.
            DrawnSlide second = new DrawnSlide(150, 100, 3, DataBuffer.TYPE_BYTE).grid(44, 16);
            Settings few = Settings.builder(Algorithm.STARDIST).serverUrl(url).steps(1).batchSize(1).patchSize(64).build();
            new Work(few, new ModelStore(folder), watch).train(List.of(slide.subject(2), second.subject(1)));
            new Work(few, new ModelStore(folder), watch).predict(slide, List.of(new Rectangle(100, 100)));
            assertTrue(Files.isRegularFile(folder.resolve("models/stardist/default.safetensors")));
            assertTrue(new Work(few, new ModelStore(folder), watch).reset());
            assertTrue(Files.notExists(folder.resolve("models/stardist/default.safetensors")));
        }
    }

    @Test
    void tilesAreSegmentedThereAsHere() throws Exception {
        ModelStore store = new ModelStore(folder.resolve("models"));
        try (Model model = Model.create(Algorithm.STARDIST, ModelOptions.builder().channels(3).set("n_rays", 16)
                .set("n_filter_base", 8).set("n_depth", 2).set("net_conv_after_unet", 16).build())) {
            model.save(store.writable(Algorithm.STARDIST, "default"));
        }
        // By its own percentiles, a tile of the dark part would be brighter than one of the light part.
        DrawnSlide slide = new DrawnSlide(300, 200, 3, DataBuffer.TYPE_BYTE).grid(44, 16)
                .fill(new Rectangle(200, 0, 100, 200), 45);
        Settings.Builder settings = Settings.builder(Algorithm.STARDIST).tileSize(128).overlap(32);
        new Work(settings.steps(80).batchSize(2).patchSize(64).learningRate(0.005).build(), store, new Watch())
                .train(List.of(slide.subject(6)));
        List<Found> here = new Work(settings.build(), store, new Watch()).predict(slide, List.of());
        assertTrue(here.size() > 3, here.size() + " objects");
        try (Serve server = new Serve(folder)) {
            settings.serverUrl(server.url());
            // The order is that of the tiles, which are others here.
            List<Found> there = new Work(settings.build(), store, new Watch()).predict(slide, List.of());
            assertEquals(here.size(), there.size());
            assertEquals(new HashSet<>(boxes(here)), new HashSet<>(boxes(there)));
        }
    }

    private static List<Rectangle2D> boxes(List<Found> found) {
        return found.stream().map(one -> one.shape().getBounds2D()).toList();
    }

    private static BufferedImage picture(String base64) throws Exception {
        return ImageIO.read(new ByteArrayInputStream(Base64.getDecoder().decode(base64)));
    }

    private static int[] samples(BufferedImage image) {
        return image.getRaster().getSamples(0, 0, image.getWidth(), image.getHeight(), 0, (int[]) null);
    }
}
