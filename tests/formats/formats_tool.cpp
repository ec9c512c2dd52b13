// Drives the readers and writers from the parity test: what they read goes to standard output as
// one line of JSON per tensor, followed by its raw bytes.
#include <iostream>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/gguf_dequantize.h"
#include "src/formats/safetensors.h"
#include "src/formats/tensor_store.h"
#include "src/formats/tensorboard.h"

namespace dfmoa::formats {
namespace {

void print_tensor(const nlohmann::json& line, std::span<const std::byte> bytes) {
  auto with_bytes = line;
  with_bytes["bytes"] = bytes.size();
  std::cout << with_bytes.dump() << '\n';
  std::cout.write(reinterpret_cast<const char*>(bytes.data()),
                  static_cast<std::streamsize>(bytes.size()));
}

/// FILE: every tensor as stored.
void dump(const std::string& path) {
  const SafetensorsFile file(path);
  for (const auto& [name, tensor] : file.tensors()) {
    print_tensor({{"name", name}, {"dtype", base::name_of(tensor.dtype)}, {"shape", tensor.shape}},
                 tensor.bytes);
  }
}

/// FOLDER: every tensor of a directory's weights.
void dump_store(const std::string& folder) {
  const auto store = TensorStore::open(folder);
  for (const auto& name : store.names()) {
    const auto& tensor = store.get(name);
    print_tensor({{"name", name}, {"dtype", base::name_of(tensor.dtype)}, {"shape", tensor.shape}},
                 tensor.bytes);
  }
}

/// FROM TO: read and written again at once.
void copy(const std::string& from, const std::string& to) {
  const SafetensorsFile file(from);
  std::vector<TensorView> tensors;
  for (const auto& [name, tensor] : file.tensors()) tensors.push_back(tensor);
  write_safetensors(to, tensors);
}

/// FROM TO: read and written again in pieces of 1000 bytes.
void stream(const std::string& from, const std::string& to) {
  const SafetensorsFile file(from);
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : file.tensors()) {
    specs.push_back({name, tensor.dtype, tensor.shape});
  }
  SafetensorsWriter writer(to, specs);
  for (const auto& [name, tensor] : file.tensors()) {
    for (std::size_t at = 0; at < tensor.bytes.size(); at += 1000) {
      writer.append(
          name, tensor.bytes.subspan(at, std::min<std::size_t>(1000, tensor.bytes.size() - at)));
    }
  }
  writer.finish();
}

/// FILE: every tensor as fp32, dequantised in two row ranges.
void dequantize_all(const std::string& path) {
  const GgufFile file(path);
  for (const auto& [name, tensor] : file.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.rows() * tensor.columns()));
    const auto half = tensor.rows() / 2;
    dequantize(tensor, 0, half, values.data());
    dequantize(tensor, half, tensor.rows(), values.data() + half * tensor.columns());
    print_tensor({{"name", name}, {"dtype", block_of(tensor.type).name}, {"shape", tensor.shape}},
                 std::as_bytes(std::span(values)));
  }
}

/// FILE: key -> value.
void metadata(const std::string& path) {
  const GgufFile file(path);
  auto all = nlohmann::json::object();
  for (const auto& [key, value] : file.metadata().entries()) {
    all[key] = std::visit([](const auto& held) { return nlohmann::json(held); }, value);
  }
  std::cout << all.dump() << '\n';
}

/// FOLDER, and "tag step value wall_time" on every line of standard input.
void events(const std::string& folder) {
  EventWriter writer(folder);
  for (std::string line; std::getline(std::cin, line);) {
    const auto words = base::split(line, ' ');
    writer.scalar(words.at(0), std::stoll(words.at(1)), std::strtof(words.at(2).c_str(), nullptr),
                  std::stod(words.at(3)));
  }
  writer.flush();
}

void run(const std::vector<std::string>& words) {
  const auto& verb = words.at(0);
  if (verb == "dump") return dump(words.at(1));
  if (verb == "dump_store") return dump_store(words.at(1));
  if (verb == "copy") return copy(words.at(1), words.at(2));
  if (verb == "stream") return stream(words.at(1), words.at(2));
  if (verb == "dequantize") return dequantize_all(words.at(1));
  if (verb == "metadata") return metadata(words.at(1));
  if (verb == "events") return events(words.at(1));
  throw base::UsageError("formats_tool knows no '" + verb + "'");
}

}  // namespace
}  // namespace dfmoa::formats

int main(int count, char** words) {
  try {
    dfmoa::formats::run({words + 1, words + count});
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return static_cast<int>(dfmoa::base::exit_code(error));
  }
}
