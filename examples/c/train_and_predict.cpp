// Trains a network on polygons and prints the outlines of what it finds, in C++17.
//
//   train_and_predict ALGORITHM OPTIONS
//
// The image is drawn here: bright discs on a dark ground. Two discs are annotated, with background around one of them.
#include <cellsparse.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Turns a status into an exception.
void check(cellsparse_status status) {
    if (status != CELLSPARSE_STATUS_OK) throw std::runtime_error(cellsparse_last_error_message());
}

// Owns a handle or a text of the library.
template <class T, cellsparse_status (*release)(T *)>
struct Free {
    void operator()(T *handle) const { release(handle); }
};
using Model = std::unique_ptr<cellsparse_model, Free<cellsparse_model, cellsparse_model_free>>;
using Dataset = std::unique_ptr<cellsparse_dataset, Free<cellsparse_dataset, cellsparse_dataset_free>>;
using Segmentation = std::unique_ptr<cellsparse_segmentation, Free<cellsparse_segmentation, cellsparse_segmentation_free>>;
using Text = std::unique_ptr<const char, Free<const char, cellsparse_string_free>>;

constexpr std::size_t side = 96;

struct Disc {
    double x, y, radius;

    // A polygon of 32 points: x, y, x, y, ... in pixel-corner coordinates.
    std::vector<double> outline(double grown) const {
        std::vector<double> points;
        for (int k = 0; k < 32; k++) {
            const double angle = 2 * 3.14159265358979 * k / 32;
            points.push_back(x + (radius + grown) * std::cos(angle));
            points.push_back(y + (radius + grown) * std::sin(angle));
        }
        return points;
    }
};

std::vector<float> draw(const std::vector<Disc> &discs) {
    std::vector<float> pixels(side * side);
    for (std::size_t row = 0; row < side; row++) {
        for (std::size_t column = 0; column < side; column++) {
            // A fixed pattern stands for noise.
            float value = 10.0F + static_cast<float>((row * 7 + column * 13) % 11);
            for (const auto &disc : discs) {
                if (std::hypot(column + 0.5 - disc.x, row + 0.5 - disc.y) < disc.radius) value += 100.0F;
            }
            pixels[row * side + column] = value;
        }
    }
    return pixels;
}

cellsparse_image view(const std::vector<float> &pixels) {
    cellsparse_image image{};
    image.data = pixels.data();
    image.size = pixels.size() * sizeof(float);
    image.dtype = CELLSPARSE_DTYPE_F32;
    image.height = side;
    image.width = side;
    image.channels = 1;
    return image;
}

cellsparse_polygon view(const std::vector<double> &points, cellsparse_polygon_kind kind) {
    cellsparse_polygon polygon{};
    polygon.points = points.data();
    polygon.n_points = points.size() / 2;
    polygon.kind = kind;
    return polygon;
}

int show(void *userdata, const cellsparse_progress *progress) {
    *static_cast<float *>(userdata) = progress->loss;
    return 0;
}

void run(const char *algorithm, const char *options) {
    const std::vector<Disc> discs{{24, 24, 10}, {66, 30, 12}, {34, 70, 11}, {74, 74, 9}};
    const auto pixels = draw(discs);
    const auto image = view(pixels);

    cellsparse_dataset *new_dataset = nullptr;
    check(cellsparse_dataset_new(&new_dataset));
    const Dataset dataset(new_dataset);
    const auto first = discs[0].outline(0), second = discs[1].outline(0), around = discs[0].outline(6);
    const std::vector<cellsparse_polygon> polygons{view(first, CELLSPARSE_POLYGON_KIND_FOREGROUND),
                                                   view(second, CELLSPARSE_POLYGON_KIND_FOREGROUND),
                                                   view(around, CELLSPARSE_POLYGON_KIND_BACKGROUND)};
    check(cellsparse_dataset_add_polygons(dataset.get(), &image, polygons.data(), polygons.size()));

    cellsparse_model *new_model = nullptr;
    check(cellsparse_model_new(algorithm, nullptr, 0, &new_model));
    const Model model(new_model);
    float loss = 0;
    cellsparse_training_summary summary{};
    check(cellsparse_model_train(model.get(), dataset.get(), nullptr, options, nullptr, show, &loss, &summary));

    cellsparse_segmentation *new_segmentation = nullptr;
    check(cellsparse_model_predict(model.get(), &image, nullptr, nullptr, &new_segmentation));
    const Segmentation found(new_segmentation);
    const char *new_text = nullptr;
    check(cellsparse_segmentation_geojson(found.get(), R"({"simplify": 1})", &new_text));
    const Text text(new_text);
    std::fprintf(stderr, "%lu steps, loss %.4f\n", static_cast<unsigned long>(summary.steps), static_cast<double>(loss));
    std::printf("%s\n", text.get());
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s ALGORITHM OPTIONS\n", argv[0]);
        return 2;
    }
    try {
        run(argv[1], argv[2]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
    return 0;
}
