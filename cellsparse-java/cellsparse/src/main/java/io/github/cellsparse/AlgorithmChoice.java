package io.github.cellsparse;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The algorithm that found drawn cells best that it had not been shown; of {@link Dataset#chooseAlgorithm}.
 *
 * @param algorithm which one
 * @param reason the same in a sentence
 * @param scores what each reached, best first: the mean overlap, 0 to 1, of the left-out cells with the objects found
 */
public record AlgorithmChoice(Algorithm algorithm, String reason, Map<Algorithm, Double> scores) {

    static AlgorithmChoice of(Map<String, Object> told) {
        Map<Algorithm, Double> scores = new LinkedHashMap<>();
        for (Object trial : (List<?>) told.get("trials")) {
            Map<?, ?> one = (Map<?, ?>) trial;
            scores.put(Algorithm.of(String.valueOf(one.get("algorithm"))), (Double) one.get("score"));
        }
        return new AlgorithmChoice(Algorithm.of(String.valueOf(told.get("algorithm"))),
                String.valueOf(told.get("reason")), Collections.unmodifiableMap(scores));
    }
}
