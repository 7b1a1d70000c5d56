package io.github.cellsparse.qupath.work;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpServer;
import io.github.cellsparse.Algorithm;
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
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
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

    /** A server that notes requests and gives one answer. */
    private static final class Noting implements AutoCloseable {
        final List<String> requests = new ArrayList<>();
        final CountDownLatch asked = new CountDownLatch(1);
        volatile CountDownLatch hold = new CountDownLatch(0);
        private final HttpServer server;

        Noting(int status, String answer) throws Exception {
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
                byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
                exchange.sendResponseHeaders(status, bytes.length);
                exchange.getResponseBody().write(bytes);
                exchange.close();
            });
            server.start();
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
                List<Found> found = work(settings).trainAndPredict(List.of(slide.subject(1)), slide, List.of());
                assertEquals(1, server.requests.size(), "one request does both");
                String expected = "/" + algorithm.id() + "/?outline=exact application/json application/json; charset=utf-8 "
                        + "{\"modelname\":\"default\",\"b64img\":\"IMAGE\",\"b64lbl\":\"LABELS\",\"train\":true,\"eval\":true,"
                        + "\"epochs\":" + (algorithm == Algorithm.CELLPOSE ? 5 : 1) + ",\"batchsize\":8,\"steps\":200}";
                assertEquals(expected, server.requests.get(0).replaceAll("b64img\":\"[^\"]+", "b64img\":\"IMAGE")
                        .replaceAll("b64lbl\":\"[^\"]+", "b64lbl\":\"LABELS"));
                // Pixel centres at whole numbers become corners, and what has no ring is nothing.
                assertEquals(1, found.size());
                assertEquals(new Rectangle2D.Double(10, 10, 10, 10), found.get(0).shape().getBounds2D());
                assertTrue(Double.isNaN(found.get(0).probability()));

                String body = server.requests.get(0).substring(server.requests.get(0).indexOf('{'));
                JsonObject sent = JsonParser.parseString(body).getAsJsonObject();
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
                    + "\"steps\":200,\"trainpatch\":64,\"lr\":0.01,\"minarea\":4.0}",
                    server.requests.get(0).replaceAll("b64img\":\"[^\"]+", "b64img\":\"IMAGE"));
            assertTrue(server.requests.get(1).startsWith("/elephant/reset/ "), server.requests.get(1));
            assertTrue(server.requests.get(1).endsWith(" {\"modelname\":\"default\"}"));
            assertEquals(2, server.requests.size());
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
            assertThrows(Failure.class, () -> RemoteWork.url(url, Algorithm.STARDIST), url);
        }
        assertEquals("http://h:1/stardist/", RemoteWork.url("http://h:1", Algorithm.STARDIST).toString());
        assertEquals("https://h/x/", RemoteWork.url("https://h/x", Algorithm.STARDIST).toString());
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
            assertThrows(Stopped.class, () -> new Work(settings, new ModelStore(folder), watch)
                    .trainAndPredict(List.of(slide.subject(1)), slide, List.of()));
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
                    .trainAndPredict(List.of(slide.subject(8)), slide, List.of());
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

    private static BufferedImage picture(String base64) throws Exception {
        return ImageIO.read(new ByteArrayInputStream(Base64.getDecoder().decode(base64)));
    }

    private static int[] samples(BufferedImage image) {
        return image.getRaster().getSamples(0, 0, image.getWidth(), image.getHeight(), 0, (int[]) null);
    }
}
