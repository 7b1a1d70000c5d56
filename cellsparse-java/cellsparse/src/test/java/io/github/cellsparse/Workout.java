package io.github.cellsparse;

import java.util.List;

/** Calls every native method once, for a virtual machine that checks them; prints done at the end. */
final class Workout {
    private Workout() {}

    public static void main(String[] arguments) throws Exception {
        Cellsparse.version();
        Cellsparse.devices();
        java.nio.file.Path file = java.nio.file.Files.createTempFile("workout", ".safetensors");
        CancelToken token = new CancelToken();
        try (Model model = Model.create(Algorithm.STARDIST, Fields.TINY);
                Dataset data = Fields.dataset()) {
            data.add(Fields.image(), Labels.of(List.of(Polygon.of(Polygon.Kind.FOREGROUND, new double[] {1, 1, 9, 1, 9, 9}))));
            data.advice();
            model.train(data, Fields.shortTraining().cancel(token).validation(data).build(), event -> true);
            expect(IllegalStateException.class, () -> model.train(data, Fields.SHORT, event -> {
                throw new IllegalStateException();
            }));
            expect(CellsparseException.Config.class, () -> model.train(data, TrainOptions.builder().steps(0).build()));
            data.setClasses(0, java.util.Map.of(1, 1));
            // A model without classes says so instead of forgetting them.
            expect(CellsparseException.Labels.class, () -> model.train(data, Fields.SHORT));
            model.info();
            model.history();
            model.save(file);
            Model.load(file).close();
            try (Segmentation found = model.predict(Fields.image(), PredictOptions.builder().probThresh(0.01).build())) {
                found.labels();
                found.objects();
                found.outlines(OutlineOptions.exact());
                found.toGeoJson(OutlineOptions.literal());
            }
            LabelImages.matching(new int[] {1, 0}, new int[] {1, 0}, 1, 2, 0.5);
            LabelImages.matchingDataset(List.of(new int[] {1, 0}), List.of(new int[] {1, 0}), List.of(new int[] {1, 2}),
                    new double[] {0.5}, true);
            LabelImages.outlines(new int[] {1, 0}, 1, 2, OutlineOptions.exact());
            LabelImages.toGeoJson(new int[] {1, 0}, 1, 2, OutlineOptions.exact());
            model.reset(1);
            token.cancel();
            Native.cancelIsRaised(Native.cancelNew());
            expect(IllegalStateException.class, () -> Native.modelInfo(12345));
            expect(IllegalStateException.class, () -> Native.modelFree(12345));
            expect(NullPointerException.class, () -> Native.modelInfo(0));
            expect(RuntimeException.class, () -> Native.modelNew(null, null, 0));
            expect(RuntimeException.class, () -> Native.datasetAdd(
                    Native.datasetNew(), new int[3], false, 1, 0, 1, 3, 1, 0, 0, 0, new int[3], 0, 1, 3));
        }
        java.nio.file.Files.delete(file);
        System.out.println("done");
    }

    private static void expect(Class<? extends Throwable> kind, Runnable work) {
        try {
            work.run();
        } catch (Throwable error) {
            if (kind.isInstance(error)) {
                return;
            }
            throw new AssertionError("expected " + kind, error);
        }
        throw new AssertionError("expected " + kind);
    }
}
