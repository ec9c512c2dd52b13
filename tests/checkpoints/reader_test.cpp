#include "checkpoints/reader.h"

#include <algorithm>

#include "checkpoints/retention.h"
#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/checkpoints/damage.h"
#include "tests/checkpoints/small_state.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

constexpr const char* kA0 = "layer/0/q/expert/0/A";
constexpr const char* kA1 = "layer/0/q/expert/1/A";

class Reader : public CheckpointFolder {
 protected:
  fs::path step_ = folder_ / "step_00000100";

  void SetUp() override {
    CheckpointFolder::SetUp();
    save(100);
  }
  void save(std::int64_t step) {
    SmallState state(static_cast<std::uint64_t>(step));
    const auto comm = comm::make_single();
    save_checkpoint(folder_, state.tree(), step, *comm, {});
  }
  std::string refusal() {
    return sentence_of<base::ContentError>([&] { (void)Checkpoint::open(step_); });
  }
  std::string load_refusal(SmallState& into) {
    const auto checkpoint = Checkpoint::open(step_);
    return sentence_of<base::ContentError>([&] { checkpoint.load(into.tree()); });
  }
};

TEST_F(Reader, a_missing_folder_is_what_the_user_typed) {
  EXPECT_THROW((void)Checkpoint::open(folder_ / "step_00000999"), base::UsageError);
}

TEST_F(Reader, every_one_of_200_flipped_bits_is_found) {
  const auto manifest = read_manifest(step_);
  const base::KeyedRandom random(11, {base::key_word("flips")});
  for (std::uint64_t i = 0; i < 200; ++i) {
    const auto path = step_ / (i % 4 == 0 ? kManifestName : kDataName);
    const auto offset = random.below(2 * i, fs::file_size(path));
    const auto bit = static_cast<int>(random.below(2 * i + 1, 8));
    flip_bit(path, offset, bit);
    const auto sentence = refusal();
    EXPECT_TRUE(says(sentence, path.string())) << " at " << offset;
    flip_bit(path, offset, bit);
  }
  EXPECT_EQ(Checkpoint::open(step_).step(), 100);
}

TEST_F(Reader, a_bad_byte_names_its_dataset_before_hdf5_opens_the_file) {
  for (const auto& [name, record] : read_manifest(step_).datasets) {
    for (const auto& part : record.stored) {
      const auto offset = part.extent.offset + part.extent.bytes / 2;
      flip_bit(step_ / kDataName, offset, 3);
      EXPECT_TRUE(says(refusal(), "the damage is in dataset " + name));
      flip_bit(step_ / kDataName, offset, 3);
    }
  }
}

TEST_F(Reader, a_bad_header_is_told_from_a_bad_dataset) {
  flip_bit(step_ / kDataName, 8, 0);  // the version of the superblock
  EXPECT_TRUE(says(refusal(), "the damage is in its names and headers"));
}

TEST_F(Reader, a_truncated_file_is_refused_with_both_sizes) {
  const auto size = fs::file_size(step_ / kDataName);
  fs::resize_file(step_ / kDataName, size - 1);
  const auto sentence = refusal();
  EXPECT_TRUE(says(sentence, base::text("holds ", size - 1, " bytes, the manifest says ", size)));
}

TEST_F(Reader, a_missing_file_is_named) {
  fs::remove(step_ / kDataName);
  EXPECT_TRUE(says(refusal(), "checkpoint.h5 is missing"));
}

TEST_F(Reader, a_missing_or_truncated_manifest_is_refused) {
  const auto size = fs::file_size(step_ / kManifestName);
  fs::resize_file(step_ / kManifestName, size - 1);
  EXPECT_TRUE(says(refusal(), "differs from the checksum in its first line"));
  fs::resize_file(step_ / kManifestName, 0);
  EXPECT_TRUE(says(refusal(), "differs from the checksum in its first line"));
  fs::remove(step_ / kManifestName);
  EXPECT_TRUE(says(refusal(), "manifest.json is missing"));
}

TEST_F(Reader, two_exchanged_experts_are_named_even_with_renewed_checksums) {
  edit_h5(step_, [](hid_t file) {
    move_link(file, kA0, "spare");
    move_link(file, kA1, kA0);
    move_link(file, "spare", kA1);
  });
  EXPECT_TRUE(says(refusal(), "differs from its checksum"));
  renew_manifest(step_);
  SmallState into;
  EXPECT_TRUE(says(load_refusal(into), base::text("dataset ", kA0, " differs from its checksum")));
  const auto checkpoint = Checkpoint::open(step_);
  EXPECT_TRUE(says(sentence_of<base::ContentError>([&] { checkpoint.verify_datasets(); }), kA0));
}

TEST_F(Reader, a_renamed_dataset_is_named_even_with_renewed_checksums) {
  edit_h5(step_, [](hid_t file) { move_link(file, kA0, "layer/0/q/expert/0/X"); });
  renew_manifest(step_);
  EXPECT_TRUE(says(refusal(), base::text("dataset ", kA0, " is missing")));
}

TEST_F(Reader, a_dataset_that_the_manifest_does_not_list_is_named) {
  edit_h5(step_,
          [](hid_t file) { H5Ocopy(file, kA0, file, "stowaway", H5P_DEFAULT, H5P_DEFAULT); });
  renew_manifest(step_);
  EXPECT_TRUE(says(refusal(), "the manifest does not list dataset stowaway"));
}

TEST_F(Reader, an_older_minor_version_is_read) {
  edit_manifest(step_, "\"1.1\"", "\"1.0\"");
  EXPECT_EQ(Checkpoint::open(step_).format(), "1.0");
}

TEST_F(Reader, a_newer_format_is_refused_and_both_versions_named) {
  edit_manifest(step_, "\"1.1\"", "\"1.2\"");
  EXPECT_TRUE(says(refusal(), "format version 1.2, this program reads up to 1.1"));
  edit_manifest(step_, "\"1.2\"", "\"2.0\"");
  EXPECT_TRUE(says(refusal(), "format version 2.0"));
  edit_manifest(step_, "\"2.0\"", "\"two\"");
  EXPECT_TRUE(says(refusal(), "format version two"));
}

TEST_F(Reader, another_kind_of_manifest_is_refused) {
  edit_manifest(step_, "dfmoa-checkpoint", "something-else");
  EXPECT_TRUE(says(refusal(), "the format is 'something-else'"));
}

TEST_F(Reader, a_manifest_without_a_key_is_malformed) {
  edit_manifest(step_, "\"step\"", "\"stop\"");
  EXPECT_TRUE(says(refusal(), "a key is missing or has another type"));
}

TEST_F(Reader, another_step_than_the_manifests_is_refused) {
  edit_manifest(step_, "\"step\": 100", "\"step\": 101");
  EXPECT_TRUE(says(refusal(), "its step differs from the manifest's, 101"));
}

TEST_F(Reader, a_folder_renamed_to_another_step_is_refused) {
  fs::rename(step_, folder_ / "step_00000200");
  step_ = folder_ / "step_00000200";
  EXPECT_TRUE(says(refusal(), "the manifest says it is step 100"));
}

TEST_F(Reader, load_names_what_is_missing_on_either_side) {
  SmallState more;
  more.add(0, "layer/1/q/expert/0/A", base::DType::f32, {2, 2});
  EXPECT_TRUE(
      says(load_refusal(more), "dataset layer/1/q/expert/0/A is missing, the run needs it"));
  base::StateTree less;
  const auto checkpoint = Checkpoint::open(step_);
  EXPECT_TRUE(
      says(sentence_of<base::ContentError>([&] { checkpoint.load(less); }),
           base::text("dataset ", "layer/0/q/direction_id, I64 (8), has no place in this run")));
}

TEST_F(Reader, load_names_type_and_shape_and_touches_nothing) {
  const auto checkpoint = Checkpoint::open(step_);
  for (const bool is_shape : {true, false}) {
    SmallState into(5);
    const auto before = into.bytes();
    base::StateTree tree;
    for (auto [name, entry] : into.tree().entries()) {
      if (name == "small/u8" && is_shape) entry.shape = {3, 3};
      if (name == "small/u8" && !is_shape) entry.dtype = base::DType::i32;
      tree.add(entry);
    }
    const auto sentence = sentence_of<base::ContentError>([&] { checkpoint.load(tree); });
    EXPECT_TRUE(says(sentence, base::text("dataset small/u8 is U8 (9), expected ",
                                          is_shape ? "U8 (3, 3)" : "I32 (9)")));
    EXPECT_EQ(into.bytes(), before);
  }
}

TEST_F(Reader, what_another_process_holds_is_compared_and_not_read) {
  edit_h5(step_, [](hid_t file) {  // their values are found wrong as soon as they are read
    move_link(file, kA0, "spare");
    move_link(file, kA1, kA0);
    move_link(file, "spare", kA1);
  });
  renew_manifest(step_);
  const auto checkpoint = Checkpoint::open(step_);
  const SmallState saved(100);
  const auto load_without = [&](SmallState& into, const std::vector<std::string>& others,
                                const h5::Shape& shape) {
    base::StateTree tree;
    for (auto [name, entry] : into.tree().entries()) {
      if (std::count(others.begin(), others.end(), name) > 0) {
        entry = {name, entry.dtype, shape, nullptr, 1};
      }
      tree.add(entry);
    }
    checkpoint.load(tree);
  };
  SmallState into(5);
  const auto before = into.bytes();
  load_without(into, {kA0, kA1}, {4, 6});
  for (const auto& [name, bytes] : into.bytes()) {
    const bool is_other = name == kA0 || name == kA1;
    EXPECT_EQ(bytes, is_other ? before.at(name) : saved.bytes().at(name)) << name;
  }
  EXPECT_TRUE(says(sentence_of<base::ContentError>([&] {
                     load_without(into, {kA1}, {4, 6});
                   }),
                   base::text("dataset ", kA0, " differs from its checksum")));
  SmallState untouched(5);
  EXPECT_TRUE(says(sentence_of<base::ContentError>([&] {
                     load_without(untouched, {kA0, kA1}, {6, 4});
                   }),
                   base::text("dataset ", kA0, " is F32 (4, 6), expected F32 (6, 4)")));
  EXPECT_EQ(untouched.bytes(), before);
}

TEST_F(Reader, names_below_ext_need_not_be_known) {
  SmallState state(1);
  state.add(1, "ext/somebody/notes", base::DType::u8, {5});
  const auto comm = comm::make_single();
  save_checkpoint(folder_, state.tree(), 300, *comm, {});
  const auto checkpoint = Checkpoint::open(folder_ / "step_00000300");
  SmallState plain;
  checkpoint.load(plain.tree());
  EXPECT_EQ(plain.bytes().at(kA0), state.bytes().at(kA0));
  std::vector<unsigned char> notes(5);
  checkpoint.read("ext/somebody/notes", notes.data());
  EXPECT_EQ(notes, state.bytes().at("ext/somebody/notes"));
}

TEST_F(Reader, reading_an_unknown_name_is_refused) {
  const auto checkpoint = Checkpoint::open(step_);
  EXPECT_THROW(checkpoint.read("nothing", nullptr), base::ContentError);
}

TEST_F(Reader, find_newest_falls_back_with_a_sentence_for_each) {
  save(200);
  save(300);
  fs::create_directories(folder_ / "step_00000400.tmp");
  fs::create_directories(folder_ / "step_00000050.tmp");  // older than what is found: no word
  fs::remove(folder_ / "step_00000300" / kManifestName);
  fs::resize_file(folder_ / "step_00000200" / kDataName, 1000);
  const auto spoken = folder_ / "spoken.txt";
  base::Logger log(false);
  log.add_file(spoken);
  const auto newest = find_newest(folder_, log);
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->step(), 100);
  const auto words = base::read_file(spoken);
  EXPECT_EQ(std::count(words.begin(), words.end(), '\n'), 3) << words;
  EXPECT_TRUE(says(words, "checkpoint step_00000300 is passed over: "));
  EXPECT_TRUE(says(words, "manifest.json is missing"));
  EXPECT_TRUE(says(words, "checkpoint step_00000200 is passed over: "));
  EXPECT_TRUE(says(words, "checkpoint.h5 holds 1000 bytes"));
  EXPECT_TRUE(
      says(words, "checkpoint step_00000400.tmp is passed over: its save was not finished"));
}

TEST_F(Reader, find_newest_does_not_trust_latest) {
  save(200);
  base::write_file(folder_ / "latest", "step_00000100\n");
  base::Logger log(false);
  EXPECT_EQ(find_newest(folder_, log)->step(), 200);
}

TEST_F(Reader, find_newest_finds_nothing_where_nothing_is) {
  base::Logger log(false);
  EXPECT_FALSE(find_newest(folder_ / "none", log));
  fs::remove(step_ / kManifestName);
  EXPECT_FALSE(find_newest(folder_, log));
  base::write_file(folder_ / "file", "");
  EXPECT_THROW((void)find_newest(folder_ / "file", log), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
