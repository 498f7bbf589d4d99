// Files that are damaged, or that lie: never loaded.

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "fpdist/core/error.hpp"
#include "src/checkpoint/companions.hpp"
#include "src/checkpoint/state/manifest.hpp"
#include "src/checkpoint/state/shard.hpp"
#include "tests/checkpoint/state/cut_tensors.hpp"
#include "tests/support/files/scratch.hpp"
#include "tests/support/words/error_of.hpp"

namespace fpdist::checkpoint {
namespace {

using namespace fpdist::test;

class Damage : public testing::Test {
 protected:
  Damage() {
    std::filesystem::create_directories(scratch_ / "model/additional_chat_templates");
    spill(scratch_ / "model/tokenizer.json", "some tokens");
    spill(scratch_ / "model/additional_chat_templates/rag.jinja", "a template");
    Random random(11);
    save_state(
        directory_, deal_pieces(random, draw_state(random, 5), 2),
        {.state_json = "{\"step\": 12}", .config_json = "{\"hidden_size\": 8}", .companions_from = scratch_ / "model"});
    load();
  }
  void load() const { TrainingState(directory_).verify(0, 1); }
  /// The file with these bytes instead is refused.
  void expect_refused(const std::string& name, const std::string& bytes) {
    const std::string path = directory_ + "/" + name, before = slurp(path);
    ASSERT_NE(bytes, before);
    spill(path, bytes);
    expect_words(error_of<ModelFileError>([&] { load(); }), {directory_});
    spill(path, before);
  }
  const Scratch scratch_;
  const std::string directory_ = scratch_ / "checkpoint-12";
};

TEST_F(Damage, EveryFileCutAtEachSixteenthIsRefused) {
  for (const std::string& name : files_of_model(directory_)) {
    const std::string whole = slurp(directory_ + "/" + name);
    std::set<size_t> lengths;
    for (size_t part = 0; part < 16; ++part) lengths.insert(whole.size() * part / 16);
    lengths.insert(whole.size() - 1);
    for (const size_t length : lengths) {
      SCOPED_TRACE(text(name, " cut to ", length));
      expect_refused(name, whole.substr(0, length));
    }
    expect_refused(name, whole + " ");
  }
}

TEST_F(Damage, OneBitFlippedAnywhereIsRefused) {
  Random random(13);
  for (const std::string& name : files_of_model(directory_)) {
    const std::string whole = slurp(directory_ + "/" + name);
    for (int sample = 0; sample < 150; ++sample) {
      const int64_t bit = draw(random, 0, static_cast<int64_t>(whole.size()) * 8 - 1);
      SCOPED_TRACE(text(name, " bit ", bit, ", seed 13"));
      std::string flipped = whole;
      flipped[index(bit / 8)] = static_cast<char>(flipped[index(bit / 8)] ^ (1 << bit % 8));
      expect_refused(name, flipped);
    }
  }
}

TEST_F(Damage, AFileThatIsMissingIsNamed) {
  for (const std::string& name : files_of_model(directory_)) {
    const std::string bytes = slurp(directory_ + "/" + name);
    std::filesystem::remove(directory_ + "/" + name);
    const std::string fault = find_states(scratch_.path()).front().fault;
    EXPECT_EQ(error_of<ModelFileError>([&] { load(); }), fault);
    expect_words(fault, {name});
    spill(directory_ + "/" + name, bytes);
  }
  load();
}

// Manifests whose own checksum is right.

Manifest two_ranks() {
  const std::string digits(32, '0');
  return {.program = "fpdist 0.1.0",
          .ranks = 2,
          .files = {{"shard-00000-of-00002.safetensors", 10, digits},
                    {"shard-00001-of-00002.safetensors", 20, digits},
                    {"state.json", 2, digits},
                    {"config.json", 2, digits}}};
}

std::string refusal_of(const std::string& json) {
  const std::string what = error_of<ModelFileError>([&] { parse_manifest(json, "manifest.json"); });
  EXPECT_TRUE(what.starts_with("manifest.json: ")) << what;
  return what;
}

std::string with(const std::string& json, const std::string& from, const std::string& to) {
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return json.substr(0, at) + to + json.substr(at + from.size());
}

TEST(HostileManifest, IsReadAsItWasWritten) {
  const Manifest manifest = parse_manifest(to_json(two_ranks()), "manifest.json");
  EXPECT_EQ(manifest.ranks, 2);
  EXPECT_EQ(manifest.files[1].size, 20u);
}

TEST(HostileManifest, NamesMustBeACheckpointsOwn) {
  for (const char* name :
       {"../state.json", "/etc/passwd", "..", "", "a/b", "model.safetensors", "manifest.json", "tokenizer/../x",
        "additional_chat_templates", "additional_chat_templates/", "additional_chat_templates/..",
        "additional_chat_templates/../x.jinja", "additional_chat_templates/a/b.jinja",
        "additional_chat_templates/x.txt", "config.json/additional_chat_templates/x.jinja", "shard-0-of-2.safetensors",
        "state.json.tmp"}) {
    Manifest manifest = two_ranks();
    manifest.files.push_back({name, 1, std::string(32, '0')});
    expect_words(refusal_of(to_json(manifest)), {"no file of a checkpoint", name});
  }
}

TEST(HostileManifest, FilesAreListedOnceAndAll) {
  for (size_t file = 0; file < 4; ++file) {
    Manifest twice = two_ranks(), lacking = two_ranks();
    twice.files.push_back(twice.files[file]);
    expect_words(refusal_of(to_json(twice)), {"listed twice", twice.files[file].name});
    lacking.files.erase(lacking.files.begin() + static_cast<int64_t>(file));
    expect_words(refusal_of(to_json(lacking)), {"lacks", two_ranks().files[file].name});
  }
  Manifest more = two_ranks();
  more.files.push_back({"shard-00002-of-00003.safetensors", 1, std::string(32, '0')});
  expect_words(refusal_of(to_json(more)), {"3 shards of 2 ranks"});
  more = two_ranks();
  more.ranks = 0;
  expect_words(refusal_of(to_json(more)), {"no ranks"});
}

TEST(HostileManifest, ANewerFormatNamesTheProgram) {
  const std::string newer =
      with(with(to_json(two_ranks()), "\"format\": 1", "\"format\": 2"), "fpdist 0.1.0", "fpdist 9.9.0");
  expect_words(refusal_of(newer), {"format 2 is newer than this program's 1", "use fpdist 9.9.0"});
  expect_words(refusal_of(with(to_json(two_ranks()), "\"format\": 1", "\"format\": 0")), {"format 0: it is damaged"});
  expect_words(refusal_of(R"({"format": 7, "anything": [else]})"), {"not valid JSON"});
  expect_words(refusal_of(R"({"format": 7, "anything": ["else"]})"), {"format 7 is newer"});
}

TEST(HostileManifest, FieldsAreWhatTheySay) {
  const std::string json = to_json(two_ranks());
  expect_words(refusal_of("[]"), {"lacks \"format\""});
  expect_words(refusal_of(with(json, "\"format\": 1", "\"format\": -1")), {"\"format\" is no whole number"});
  expect_words(refusal_of(with(json, "\"format\": 1", "\"format\": 1, \"format\": 1")), {"given twice"});
  expect_words(refusal_of(with(json, "\"ranks\": 2", "\"ranks\": 2.5")), {"\"ranks\" is no whole number"});
  expect_words(refusal_of(with(json, "\"ranks\": 2", "\"ranks\": 99999999999")), {"\"ranks\" is no whole number"});
  expect_words(refusal_of(with(json, "\"size\": 10", "\"size\": 18446744073709551615")), {"\"size\""});
  expect_words(refusal_of(with(json, "\"size\": 10", "\"size\": \"10\"")), {"\"size\""});
  expect_words(refusal_of(with(json, "fpdist 0.1.0", std::string(101, 'x'))), {"\"program\""});
  expect_words(refusal_of(with(json, "\"size\": 10", "\"size\": 11")), {"changed or damaged"});
  expect_words(refusal_of(json + "\n"), {"changed or damaged"});
}

// Shards' headers.

std::string place(const std::string& name, const std::string& rest) {
  return R"({"name":")" + name + R"(","shape":[2,3],)" + rest + "}";
}

/// The error of a shard with one piece of `elements` that says this of its place.
std::string refusal_of_place(const std::string& said, int64_t elements = 6) {
  const std::map<std::string, TensorInfo> tensors{{"w", {at::kFloat, {elements}, 0, 0}}};
  return error_of<ModelFileError>([&] {
    const auto pieces = parse_pieces(tensors, {{"format", "fpdist training state"}, {"w", said}}, "shard");
    join_shards({pieces}, "state");
  });
}

TEST(HostileShard, PlacesAreWhole) {
  const std::string whole = R"("dim":-1,"from":0,"extent":0,"begin":0)";
  EXPECT_EQ(refusal<ModelFileError>([&] {
              join_shards({parse_pieces({{"w", {at::kFloat, {6}, 0, 0}}},
                                        {{"format", "fpdist training state"}, {"w", place("w", whole)}}, "shard")},
                          "state");
            }),
            "accepted");
  expect_words(refusal_of_place("["), {"shard: \"w\"", "not valid JSON"});
  expect_words(refusal_of_place("[1,2,3,4,5,6]"), {"its place"});
  expect_words(refusal_of_place(place("w", R"("dim":-1,"from":0,"extent":0,"start":0)")), {"its begin"});
  expect_words(refusal_of_place(place("w", R"("dim":-1,"from":0,"extent":0,"begin":0.5)")), {"no whole number"});
  expect_words(refusal_of_place(place("w", R"("dim":-1,"from":0,"extent":0,"begin":18446744073709551615)")),
               {"no whole number"});
  expect_words(refusal_of_place(place("w", R"("dim":-1,"from":0,"extent":0,"begin":9223372036854775807)")),
               {"a range outside its slice"});
  expect_words(refusal_of_place(place("w", R"("dim":-1,"from":0,"extent":1,"begin":0)")), {"a slice outside"});
  expect_words(refusal_of_place(place("w", R"("dim":2,"from":0,"extent":0,"begin":0)")), {"a dim that it has not"});
  expect_words(refusal_of_place(place("w", R"("dim":1,"from":9223372036854775807,"extent":3,"begin":0)")),
               {"a slice outside"});
  expect_words(refusal_of_place(place("w", R"("dim":1,"from":1,"extent":-1,"begin":0)")), {"a slice outside"});
  expect_words(refusal_of_place(place("w", whole), 7), {"a range outside its slice"});
  expect_words(refusal_of_place(place("w", whole), 5), {"state: \"w\" has 5 of its 6 elements"});
  const std::string huge = R"({"name":"w","shape":[4294967296,4294967296,0],"dim":-1,"from":0,"extent":0,"begin":0})";
  expect_words(refusal_of_place(huge, 0), {"too large for any file"});
}

TEST(HostileShard, MetadataAndTensorsAreTheSame) {
  const auto refused = [](const std::map<std::string, std::string>& metadata) {
    return error_of<ModelFileError>([&] { parse_pieces({{"w", {at::kFloat, {6}, 0, 0}}}, metadata, "shard"); });
  };
  expect_words(refused({}), {"no shard of a training state"});
  expect_words(refused({{"format", "pt"}, {"w", "{}"}}), {"no shard of a training state"});
  expect_words(refused({{"format", "fpdist training state"}}), {"1 pieces and 0 places"});
  expect_words(refused({{"format", "fpdist training state"}, {"v", "{}"}}), {"\"w\" does not say its place"});
  expect_words(
      error_of<ModelFileError>([&] {
        parse_pieces({{"w", {at::kFloat, {2, 3}, 0, 0}}}, {{"format", "fpdist training state"}, {"w", "{}"}}, "shard");
      }),
      {"no flat piece"});
}

std::string refusal_of_cut(const std::vector<Region>& regions, at::ScalarType last = at::kFloat) {
  std::vector<ShardPiece> pieces;
  for (const Region& region : regions) pieces.push_back({"key", "w", at::kFloat, region});
  pieces.back().dtype = last;
  return refusal<ModelFileError>([&] { join_shards({pieces}, "state"); });
}

TEST(HostileShard, ElementsAreThereOnceAndAll) {
  const auto rows = [](int64_t from, int64_t extent, int64_t begin, int64_t size) {
    return Region{{4, 3}, 0, from, extent, begin, size};
  };
  const auto columns = [](int64_t from, int64_t extent) { return Region{{4, 3}, 1, from, extent, 0, extent * 4}; };
  EXPECT_EQ(refusal_of_cut({rows(2, 2, 0, 4), rows(0, 2, 0, 6), rows(2, 2, 4, 2)}), "accepted");
  EXPECT_EQ(refusal_of_cut({columns(0, 1), columns(1, 2)}), "accepted");
  expect_words(refusal_of_cut({rows(0, 2, 0, 6), rows(2, 2, 0, 4)}), {"has 10 of its 12 elements"});
  expect_words(refusal_of_cut({rows(0, 2, 0, 6), rows(2, 2, 0, 3), rows(2, 2, 2, 3)}), {"elements twice"});
  expect_words(refusal_of_cut({rows(0, 2, 0, 6), rows(0, 2, 0, 6)}), {"elements twice"});
  expect_words(refusal_of_cut({rows(0, 3, 0, 6), rows(1, 2, 0, 6)}), {"elements twice"});
  expect_words(refusal_of_cut({rows(0, 2, 0, 6), columns(0, 2)}), {"cut along two dims"});
  expect_words(refusal_of_cut({rows(0, 4, 0, 12), {{3, 4}, 0, 0, 3, 0, 0}}), {"of two shapes"});
  expect_words(refusal_of_cut({rows(0, 2, 0, 6), rows(2, 2, 0, 6)}, at::kDouble), {"of two dtypes"});
}

}  // namespace
}  // namespace fpdist::checkpoint
