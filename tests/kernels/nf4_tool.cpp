// The NF4 kernels as a program over raw files, for tests/parity/nf4_parity.py.
//
//   nf4_tool IN.f32 BLOCK OUT_FOLDER OFFSET     (OFFSET: "own", or the mean to subtract, in hex)
//
// Writes codes, absmax, f32, bf16 (plain) and q, absmax2, offset, double_f32 (doubly quantised).
// Exit code 3 when a value is not finite.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "kernels/nf4.h"
#include "kernels/nf4_double.h"

using namespace dfmoa::kernels;

namespace {

std::vector<float> read_floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

template <class T>
void write(const std::string& path, const std::vector<T>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(T)));
}

int run(const std::string& in, std::int64_t block, const std::string& out,
        const std::string& offset) {
  const std::vector<float> values = read_floats(in);
  const auto count = static_cast<std::int64_t>(values.size());
  const CpuLevel level = cpu_level();
  std::vector<std::uint8_t> codes((values.size() + 1) / 2);
  std::vector<float> absmax(static_cast<std::size_t>((count + block - 1) / block));
  if (!nf4_quantize(values.data(), count, block, codes.data(), absmax.data(), level)) return 3;
  std::vector<float> f32(values.size());
  std::vector<std::uint16_t> bf16(values.size());
  nf4_dequantize(codes.data(), absmax.data(), block, 0, count, f32.data(), level);
  nf4_dequantize(codes.data(), absmax.data(), block, 0, count, bf16.data(), level);
  write(out + "/codes", codes);
  write(out + "/absmax", absmax);
  write(out + "/f32", f32);
  write(out + "/bf16", bf16);

  const auto scales = static_cast<std::int64_t>(absmax.size());
  const Nf4DoubleAbsmax packed =
      offset == "own"
          ? nf4_double_quantize(absmax.data(), scales)
          : nf4_double_quantize(absmax.data(), scales, std::strtof(offset.c_str(), nullptr));
  nf4_double_dequantize(packed.q.data(), packed.absmax2.data(), packed.offset, scales,
                        kNf4DoubleBlock, nf4_dynamic_map(), absmax.data());
  nf4_dequantize(codes.data(), absmax.data(), block, 0, count, f32.data(), level);
  write(out + "/q", packed.q);
  write(out + "/absmax2", packed.absmax2);
  write(out + "/offset", std::vector<float>{packed.offset});
  write(out + "/double_f32", f32);
  write(out + "/map", std::vector<float>(nf4_dynamic_map().begin(), nf4_dynamic_map().end()));
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::fputs("usage: nf4_tool IN.f32 BLOCK OUT_FOLDER OFFSET\n", stderr);
    return 2;
  }
  try {
    return run(arguments[1], std::strtoll(arguments[2], nullptr, 10), arguments[3], arguments[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "nf4_tool: %s\n", error.what());
    return 1;
  }
}
