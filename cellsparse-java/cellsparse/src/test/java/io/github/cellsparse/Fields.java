package io.github.cellsparse;

import java.util.Random;

/** Small drawn images for the tests: two bright discs on a dark, noisy ground. */
final class Fields {
    static final int SIDE = 48;
    static final TrainOptions SHORT = shortTraining().build();
    static final ModelOptions TINY = ModelOptions.builder()
            .seed(3)
            .set("n_rays", 8)
            .set("n_filter_base", 4)
            .set("n_depth", 2)
            .set("net_conv_after_unet", 8)
            .build();

    private Fields() {}

    static TrainOptions.Builder shortTraining() {
        return TrainOptions.builder().steps(2).batchSize(1).patchSize(16).threads(1).device("cpu");
    }

    static Image image() {
        return Image.of(pixels(), SIDE, SIDE, 1);
    }

    static byte[] pixels() {
        Random random = new Random(5);
        byte[] pixels = new byte[SIDE * SIDE];
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++) {
                boolean bright = square(y, x, 12, 12) < 36 || square(y, x, 33, 30) < 49;
                pixels[y * SIDE + x] = (byte) (20 + random.nextInt(12) + (bright ? 140 : 0));
            }
        }
        return pixels;
    }

    static int[] values() {
        int[] values = new int[SIDE * SIDE];
        for (int y = 0; y < SIDE; y++) {
            for (int x = 0; x < SIDE; x++) {
                values[y * SIDE + x] = square(y, x, 12, 12) < 36 ? 1
                        : square(y, x, 33, 30) < 49 ? 2 : square(y, x, 12, 12) < 100 ? 0 : -1;
            }
        }
        return values;
    }

    static Labels labels() {
        return Labels.of(values(), SIDE, SIDE);
    }

    static Dataset dataset() {
        return new Dataset().add(image(), labels());
    }

    static Model trained() {
        Model model = Model.create(Algorithm.STARDIST, TINY);
        try (Dataset data = dataset()) {
            model.train(data, SHORT);
        }
        return model;
    }

    private static int square(int y, int x, int centerY, int centerX) {
        return (y - centerY) * (y - centerY) + (x - centerX) * (x - centerX);
    }
}
