import ai.djl.engine.Engine;
import ai.djl.inference.Predictor;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.repository.zoo.Criteria;
import ai.djl.repository.zoo.ZooModel;
import ai.djl.translate.NoopTranslator;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * Runs ONNX files by the Deep Java Library, loaded as QuPath's extension for it does: by the address of the file, with arrays that
 * bring their own batch axis.
 *
 * <p>A line of standard input is {@code MODEL TAB IMAGE TAB SIDE,SIDE,SIDE,SIDE}: a file of raw 32-bit floats (little-endian) and its
 * shape. Answers lie in {@code IMAGE.0}, {@code IMAGE.1} and so on; their shapes are the line of standard output. A model is loaded
 * once, so that one predictor answers to images of several sizes.
 */
public final class Answers {
    private static final Map<String, ZooModel<NDList, NDList>> MODELS = new HashMap<>();
    private static final Map<String, Predictor<NDList, NDList>> PREDICTORS = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        System.err.println("DJL " + Engine.getDjlVersion() + ", onnxruntime " + Engine.getEngine("OnnxRuntime").getVersion());
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split("\t");
            System.out.println(answer(parts[0], Path.of(parts[1]), shape(parts[2])));
            System.out.flush();
        }
    }

    private static String answer(String file, Path image, Shape shape) throws Exception {
        if (!MODELS.containsKey(file)) {
            var criteria = Criteria.builder()
                    .setTypes(NDList.class, NDList.class)
                    .optModelUrls(Path.of(file).toUri().toString())
                    .optEngine("OnnxRuntime")
                    .optTranslator(new NoopTranslator())
                    .build();
            MODELS.put(file, criteria.loadModel());
            PREDICTORS.put(file, MODELS.get(file).newPredictor());
        }
        var shapes = new StringBuilder();
        try (NDManager manager = MODELS.get(file).getNDManager().newSubManager()) {
            NDList answers = PREDICTORS.get(file).predict(new NDList(manager.create(floats(image), shape)));
            for (int index = 0; index < answers.size(); index++) {
                NDArray answer = answers.get(index);
                Files.write(Path.of(image + "." + index), bytes(answer.toFloatArray()));
                shapes.append(index == 0 ? "" : ";").append(sides(answer.getShape()));
            }
        }
        return shapes.toString();
    }

    private static Shape shape(String sides) {
        return new Shape(Arrays.stream(sides.split(",")).mapToLong(Long::parseLong).toArray());
    }

    private static String sides(Shape shape) {
        return Arrays.stream(shape.getShape()).mapToObj(Long::toString).collect(Collectors.joining(","));
    }

    private static float[] floats(Path path) throws IOException {
        var buffer = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        float[] values = new float[buffer.remaining()];
        buffer.get(values);
        return values;
    }

    private static byte[] bytes(float[] values) {
        var buffer = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        buffer.asFloatBuffer().put(values);
        return buffer.array();
    }

    private Answers() {}
}
