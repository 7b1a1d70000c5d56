package io.github.cellsparse.qupath.work;

import io.github.cellsparse.CancelToken;
import io.github.cellsparse.TrainingProgress;
import java.util.ArrayList;
import java.util.List;

/** Remembers what a run told, and stops it at a step or a tile if it is asked to. */
public final class Watch implements Monitor {
    public final List<String> messages = new ArrayList<>();
    public final List<String> warnings = new ArrayList<>();
    public final List<Long> steps = new ArrayList<>();
    public int tiles;
    public long stopAtStep = Long.MAX_VALUE;
    public int stopAtTile = Integer.MAX_VALUE;
    private final CancelToken token = new CancelToken();

    @Override
    public void message(String text) {
        messages.add(text);
    }

    @Override
    public void warn(String text) {
        warnings.add(text);
    }

    @Override
    public synchronized void step(TrainingProgress progress) {
        steps.add(progress.step());
        if (progress.step() >= stopAtStep) {
            token.cancel();
        }
    }

    @Override
    public void tiles(int done, int all) {
        tiles = done;
        if (done >= stopAtTile) {
            token.cancel();
        }
    }

    @Override
    public CancelToken token() {
        return token;
    }
}
