#include "checkpoints/h5.h"

#include <algorithm>

#include "checkpoints/h5_handles.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints::h5 {
namespace {

constexpr std::size_t kWantedChunkBytes = 1U << 20U;

std::vector<hsize_t> extents_of(const Shape& shape) {
  return {shape.begin(), shape.end()};
}

SpaceId space_of(const Shape& shape, const std::string& doing) {
  const auto extents = extents_of(shape);
  return SpaceId(
      check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), doing));
}

PropertyId dataset_properties(const DatasetInfo& info, const std::string& doing) {
  PropertyId properties(check(H5Pcreate(H5P_DATASET_CREATE), doing));
  const auto chunk = extents_of(chunk_of(info.shape, base::size_of(info.dtype)));
  check(H5Pset_chunk(properties.get(), static_cast<int>(chunk.size()), chunk.data()), doing);
  check(H5Pset_fletcher32(properties.get()), doing);
  check(H5Pset_obj_track_times(properties.get(), false), doing);
  return properties;
}

/// HDF5 could make them itself, but with time stamps: equal states would give unequal files.
void create_groups(hid_t file, const std::string& name, const std::string& doing) {
  PropertyId properties(check(H5Pcreate(H5P_GROUP_CREATE), doing));
  check(H5Pset_obj_track_times(properties.get(), false), doing);
  for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
    const auto group = name.substr(0, slash);
    if (check(H5Lexists(file, group.c_str(), H5P_DEFAULT), doing) > 0) continue;
    const GroupId created(
        check(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, properties.get(), H5P_DEFAULT), doing));
  }
}

std::vector<Extent> extents_in_file(hid_t dataset, std::size_t dims, const std::string& doing) {
  const SpaceId space(check(H5Dget_space(dataset), doing));
  hsize_t count = 0;
  check(H5Dget_num_chunks(dataset, space.get(), &count), doing);
  std::vector<Extent> extents;
  std::vector<hsize_t> corner(dims);
  for (hsize_t index = 0; index < count; ++index) {
    unsigned filters = 0;
    haddr_t address = 0;
    hsize_t bytes = 0;
    check(H5Dget_chunk_info(dataset, space.get(), index, corner.data(), &filters, &address, &bytes),
          doing);
    if (!extents.empty() && extents.back().offset + extents.back().bytes == address) {
      extents.back().bytes += bytes;
    } else {
      extents.push_back({address, bytes});
    }
  }
  return extents;
}

DatasetInfo info_of(hid_t dataset, const std::string& doing) {
  const TypeId type(check(H5Dget_type(dataset), doing));
  const SpaceId space(check(H5Dget_space(dataset), doing));
  const auto dims = check(H5Sget_simple_extent_ndims(space.get()), doing);
  std::vector<hsize_t> extents(static_cast<std::size_t>(dims));
  check(H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr), doing);
  return {dtype_of(type.get(), doing), Shape(extents.begin(), extents.end())};
}

/// Exceptions must not cross HDF5's C frames: the walk only collects names.
struct Walk {
  std::vector<std::string> datasets;
  bool out_of_memory = false;
};

herr_t collect(hid_t /*root*/, const char* name, const H5O_info_t* info, void* into) {
  auto* walk = static_cast<Walk*>(into);
  try {
    if (info->type == H5O_TYPE_DATASET) walk->datasets.emplace_back(name);
  } catch (const std::bad_alloc&) {
    walk->out_of_memory = true;
    return -1;
  }
  return 0;
}

}  // namespace

void FileTraits::close(type file) noexcept {
  if (H5Fclose(file) < 0) leave_without_cleanup();
}

Shape chunk_of(const Shape& shape, std::size_t element_bytes) {
  Shape chunk(shape.size());
  auto room = static_cast<std::int64_t>(kWantedChunkBytes / element_bytes);
  for (std::size_t dim = shape.size(); dim-- > 0;) {
    chunk[dim] = std::min(room, std::max<std::int64_t>(1, shape[dim]));
    room = std::max<std::int64_t>(1, room / chunk[dim]);
  }
  return chunk;
}

File File::create(const std::filesystem::path& path) {
  prepare();
  const auto doing = base::text("creating ", path.string());
  const PropertyId access(check(H5Pcreate(H5P_FILE_ACCESS), doing));
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), doing);
  const PropertyId creation(check(H5Pcreate(H5P_FILE_CREATE), doing));
  check(H5Pset_obj_track_times(creation.get(), false), doing);
  return {path, check(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation.get(), access.get()), doing)};
}

File File::open(const std::filesystem::path& path) {
  prepare();
  const auto doing = base::text("opening ", path.string());
  return {path, check(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), doing)};
}

void File::close() {
  prepare();
  if (H5Fclose(id_.release()) >= 0) return;
  const auto words = error_words();
  leave_without_cleanup();
  throw base::MachineError(base::text("closing ", path_.string(), ": ", words));
}

std::vector<Extent> File::write_dataset(const std::string& name, const DatasetInfo& info,
                                        const void* data) {
  prepare();
  const auto doing = base::text("writing dataset ", name, " of ", path_.string());
  const auto type = type_of(info.dtype);
  const auto space = space_of(info.shape, doing);
  const auto properties = dataset_properties(info, doing);
  create_groups(id_.get(), name, doing);
  const DatasetId dataset(check(H5Dcreate2(id_.get(), name.c_str(), type.get(), space.get(),
                                           H5P_DEFAULT, properties.get(), H5P_DEFAULT),
                                doing));
  if (base::count_of(info.shape) == 0) return {};
  check(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data), doing);
  return extents_in_file(dataset.get(), info.shape.size(), doing);
}

void File::read_dataset(const std::string& name, const DatasetInfo& info, void* data) const {
  prepare();
  const auto doing = base::text("reading dataset ", name, " of ", path_.string());
  const DatasetId dataset(check(H5Dopen2(id_.get(), name.c_str(), H5P_DEFAULT), doing));
  if (base::count_of(info.shape) == 0) return;
  const auto type = type_of(info.dtype);
  check(H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data), doing);
}

std::map<std::string, DatasetInfo> File::datasets() const {
  prepare();
  const auto doing = base::text("listing the datasets of ", path_.string());
  Walk walk;
  const auto result =
      H5Ovisit2(id_.get(), H5_INDEX_NAME, H5_ITER_NATIVE, collect, &walk, H5O_INFO_BASIC);
  if (walk.out_of_memory) throw std::bad_alloc();
  check(result, doing);
  std::map<std::string, DatasetInfo> infos;
  for (const auto& name : walk.datasets) {
    const auto describing = base::text("describing dataset ", name, " of ", path_.string());
    const DatasetId dataset(check(H5Dopen2(id_.get(), name.c_str(), H5P_DEFAULT), describing));
    infos.emplace(name, info_of(dataset.get(), describing));
  }
  return infos;
}

}  // namespace dfmoa::checkpoints::h5
