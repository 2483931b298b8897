// Logits and probabilities of a picture, by the onebit library alone:
//
//     classify MODEL.onebit PICTURE
//
// PICTURE is a binary PPM or PGM of the model's size, or raw bytes, row after row, the channels of a pixel together.
// Building it: see README.md.
#include <onebit.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// Memory as the library wants it: aligned.
class Memory {
  public:
    explicit Memory(std::size_t size) : size_(size), bytes_(::operator new(size + 1, alignment)) {}
    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;
    ~Memory() { ::operator delete(bytes_, alignment); }
    void *get() const { return bytes_; }
    std::size_t size() const { return size_; }

  private:
    static constexpr std::align_val_t alignment{OB_ALIGNMENT};
    std::size_t size_;
    void *bytes_;
};

void check(ob_status status, const std::string &what) {
    if (status != OB_OK)
        throw std::runtime_error(what + ": " + ob_status_text(status));
}

std::vector<std::uint8_t> read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw std::runtime_error(path + ": cannot be read");
    return {std::istreambuf_iterator<char>(file), {}};
}

// A network ready to run; the file is no longer needed.
class Model {
  public:
    explicit Model(const std::string &path) {
        const auto file = read(path);
        const Memory checking(ob_program_size(file.data(), file.size()));
        ob_program *program = nullptr;
        check(ob_program_read(file.data(), file.size(), checking.get(), checking.size(), &program, nullptr), path);
        memory_ = std::make_unique<Memory>(ob_model_size(program, nullptr));
        check(ob_model_build(program, nullptr, memory_->get(), memory_->size(), &model_), path);
        ob_model_shape(model_, &shape);
        arena_ = std::make_unique<Memory>(ob_arena_size(model_, nullptr));
    }

    // Not by several threads at a time: they would share the arena.
    std::vector<std::int32_t> logits(const std::vector<std::uint8_t> &pixels) const {
        std::vector<std::int32_t> found(shape.classes);
        check(ob_run(model_, nullptr, pixels.data(), 1, found.data(), arena_->get(), arena_->size()), "run");
        return found;
    }

    ob_shape shape{};

  private:
    std::unique_ptr<Memory> memory_, arena_;
    ob_model *model_ = nullptr;
};

// The next number of a PNM header that begins at `at`; comments are skipped.
int number(const std::vector<std::uint8_t> &file, std::size_t &at) {
    while (at < file.size() && (std::isspace(file[at]) || file[at] == '#')) {
        if (file[at] == '#')
            while (at < file.size() && file[at] != '\n')
                at++;
        else
            at++;
    }
    int n = 0;
    while (at < file.size() && std::isdigit(file[at]) && n < 1 << 20)
        n = 10 * n + (file[at++] - '0');
    return n;
}

std::vector<std::uint8_t> picture(const std::string &path, const ob_shape &shape) {
    auto file = read(path);
    const std::size_t wanted = std::size_t(shape.channels) * shape.height * shape.width;
    if (file.size() > 2 && file[0] == 'P' && (file[1] == '5' || file[1] == '6')) {
        const int channels = file[1] == '5' ? 1 : 3;
        std::size_t at = 2;
        const int width = number(file, at), height = number(file, at), most = number(file, at);
        if (channels != shape.channels || width != shape.width || height != shape.height || most != 255)
            throw std::runtime_error(path + ": not a picture of " + std::to_string(shape.width) + "x" +
                                     std::to_string(shape.height) + " with " + std::to_string(shape.channels) +
                                     " channels of 0..255");
        file.erase(file.begin(), file.begin() + std::min(at + 1, file.size()));
    }
    if (file.size() != wanted)
        throw std::runtime_error(path + ": has " + std::to_string(file.size()) + " bytes of pixels, the model takes " +
                                 std::to_string(wanted));
    return file;
}

} // namespace

int main(int argc, char **argv) try {
    if (argc != 3) {
        std::fprintf(stderr, "usage: classify MODEL.onebit PICTURE\n");
        return 2;
    }
    const Model model(argv[1]);
    const auto logits = model.logits(picture(argv[2], model.shape));
    const auto largest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> powers;
    double sum = 0;
    for (const auto logit : logits) {
        powers.push_back(std::exp(std::ldexp(double(logit) - largest, -model.shape.fraction) * model.shape.sharpness / 65536));
        sum += powers.back();
    }
    for (std::size_t k = 0; k < logits.size(); k++)
        std::printf("class %zu  logit %d  probability %.1f %%\n", k, int(logits[k]), 100 * powers[k] / sum);
} catch (const std::exception &error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 1;
}
