#include "src/data/text_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <vector>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/file_writer.h"

namespace dfmoa::data {
namespace {

constexpr std::size_t kChunk = 1 << 20;

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const noexcept { ZSTD_freeDCtx(context); }
};

std::size_t read_at(int descriptor, std::uint64_t offset, std::span<char> buffer,
                    const std::string& path) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const auto count = ::pread(descriptor, buffer.data() + done, buffer.size() - done,
                               static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) base::throw_errno("reading " + path);
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

base::Descriptor unnamed_file(const std::string& folder, const std::string& path) {
  const std::filesystem::path place =
      folder.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(folder);
  std::error_code ignored;  // mkstemp says better what is wrong
  std::filesystem::create_directories(place, ignored);
  std::string name = (place / "dfmoa_unpacked_XXXXXX").string();
  base::Descriptor file(::mkstemp(name.data()));
  if (!file) {
    base::throw_errno(
        base::text("unpacking ", path, " into ", place.string(), " (data.index_dir, else TMPDIR)"));
  }
  ::unlink(name.c_str());
  return file;
}

base::Descriptor unpack(int packed, const std::string& folder, const std::string& path) {
  auto out = unnamed_file(folder, path);
  const std::unique_ptr<ZSTD_DCtx, FreeContext> context(ZSTD_createDCtx());
  if (!context) throw base::MachineError("unpacking " + path + ": memory is short");
  std::vector<char> from(kChunk);
  std::vector<char> to(kChunk);
  std::uint64_t offset = 0;
  std::size_t pending = 0;  // of the current frame; 0: it is complete
  while (const auto bytes = read_at(packed, offset, from, path)) {
    offset += bytes;
    ZSTD_inBuffer input{from.data(), bytes, 0};
    bool is_full = false;  // the output had no room left: more may be waiting inside
    while (input.pos < input.size || is_full) {
      ZSTD_outBuffer output{to.data(), to.size(), 0};
      pending = ZSTD_decompressStream(context.get(), &output, &input);
      if (ZSTD_isError(pending) != 0) {
        throw base::ContentError(base::text(path, ": unpacking zstd, ", offset - bytes + input.pos,
                                            " bytes read: ", ZSTD_getErrorName(pending)));
      }
      formats::write_all(out.get(), std::as_bytes(std::span(to.data(), output.pos)), path);
      is_full = pending != 0 && output.pos == output.size;
    }
  }
  if (pending != 0) {
    throw base::ContentError(
        base::text(path, ": the zstd stream is cut off after ", offset, " bytes"));
  }
  return out;
}

}  // namespace

TextFile::TextFile(std::string path, const std::string& unpack_dir)
    : path_(std::move(path)), is_packed_(path_.ends_with(".zst")) {
  descriptor_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!descriptor_ && errno == ENOENT) {
    throw base::UsageError(base::text("reading ", path_, ": there is no such file"));
  }
  if (!descriptor_) base::throw_errno("reading " + path_);
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0) base::throw_errno("reading " + path_);
  if (S_ISDIR(status.st_mode)) {
    throw base::UsageError(base::text("reading ", path_, ": it is a folder, expected a file"));
  }
  stamp_.bytes = static_cast<std::uint64_t>(status.st_size);
  stamp_.modified_ns = static_cast<std::uint64_t>(status.st_mtim.tv_sec) * 1'000'000'000U +
                       static_cast<std::uint64_t>(status.st_mtim.tv_nsec);
  if (is_packed_) descriptor_ = unpack(descriptor_.get(), unpack_dir, path_);
}

std::size_t TextFile::read(std::uint64_t offset, std::span<char> buffer) const {
  return read_at(descriptor_.get(), offset, buffer, path_);
}

std::string TextFile::text() const {
  std::string all;
  std::vector<char> buffer(kChunk);
  while (const auto bytes = read(all.size(), buffer)) all.append(buffer.data(), bytes);
  return all;
}

}  // namespace dfmoa::data
