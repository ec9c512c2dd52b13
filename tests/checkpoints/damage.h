// Ways to spoil a saved checkpoint, with or without renewing the checksums that would tell.
#pragma once

#include <hdf5.h>

#include <fstream>
#include <string>

#include "checkpoints/manifest.h"
#include "src/base/file.h"
#include "src/base/hash.h"

namespace dfmoa::checkpoints {

inline void flip_bit(const std::filesystem::path& path, std::uint64_t offset, int bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  char byte = 0;
  file.seekg(static_cast<std::streamoff>(offset)).get(byte);
  byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1U << static_cast<unsigned>(bit)));
  file.seekp(static_cast<std::streamoff>(offset)).put(byte);
}

/// Gives the manifest the checksums that the files have now: only what they cannot see is left.
inline void renew_manifest(const std::filesystem::path& folder) {
  auto manifest = read_manifest(folder);
  manifest.files[kDataName] = record_file(folder / kDataName, manifest.datasets);
  base::write_file(folder / kManifestName, manifest_text(manifest));
}

/// Replaces text in the manifest and renews its first line.
inline void edit_manifest(const std::filesystem::path& folder, const std::string& from,
                          const std::string& to) {
  auto text = base::read_file(folder / kManifestName);
  text = text.substr(text.find('\n') + 1);
  text.replace(text.find(from), from.size(), to);
  const auto hash = base::hash128(text.data(), text.size());
  base::write_file(folder / kManifestName, "{\"manifest_xxh3_128\": \"" + hash + "\",\n" + text);
}

/// Runs `edit` on checkpoint.h5, opened for writing by HDF5 itself.
template <class Edit>
void edit_h5(const std::filesystem::path& folder, Edit&& edit) {
  const hid_t file = H5Fopen((folder / kDataName).c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
  edit(file);
  H5Fclose(file);
}

inline void move_link(hid_t file, const char* from, const char* to) {
  H5Lmove(file, from, file, to, H5P_DEFAULT, H5P_DEFAULT);
}

}  // namespace dfmoa::checkpoints
