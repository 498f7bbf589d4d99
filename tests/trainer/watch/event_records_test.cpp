#include "src/trainer/watch/event_records.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/support/files/scratch.hpp"
#include "tests/trainer/watch/event_reader.hpp"

namespace fpdist::trainer {
namespace {

/// The events of tests/golden/make_event_golden.py.
std::string events() {
  return version_record(1795675123.25) + restart_record(1795675123.5, 3) +
         text_record(1795675123.5, "config", "    method: dpo\n    train:\n      max_steps: 3\n") +
         scalars_record(
             1795675124.0, 3,
             {{"train/learning_rate", 0.0}, {"train/loss", 0.6931471805599453}, {"train/rewards/margins", -1.5}}) +
         scalars_record(1795675125.0, 70000, {{"eval/loss", 1e30}});
}

TEST(EventRecords, AreTheBytesOfTensorBoardsOwnWriter) {
  EXPECT_EQ(events(), test::slurp(FPDIST_SOURCE_DIR "/tests/golden/events.tfevents"));
}

TEST(EventRecords, ChecksumsAreCrc32cAndMasked) {
  const uint32_t of_digits = 0xe3069283u;  // the check value of the polynomial
  EXPECT_EQ(masked_crc32c("123456789"), ((of_digits >> 15) | (of_digits << 17)) + 0xa282ead8u);
}

TEST(EventRecords, ReadBackAsTheyWereMeant) {
  const auto read = test::EventReader::read(events());
  ASSERT_EQ(read.size(), 5U);
  EXPECT_EQ(read[0].version, "brain.Event:2");
  EXPECT_TRUE(read[1].restarts && !read[0].restarts);
  EXPECT_EQ(read[1].step, 3);
  EXPECT_EQ(read[2].texts.at("config"), "    method: dpo\n    train:\n      max_steps: 3\n");
  EXPECT_EQ(read[3].scalars,
            (std::map<std::string, float>{
                {"train/learning_rate", 0.0F}, {"train/loss", 0.6931471805599453F}, {"train/rewards/margins", -1.5F}}));
  EXPECT_EQ(read[4].step, 70000);
  EXPECT_EQ(read[4].time, 1795675125.0);
}

TEST(EventRecords, ALongTextAndAnEmptyOneAreWhole) {
  for (const size_t length : {0, 1, 127, 128, 16384, 100000}) {
    const std::string words(length, 'w');
    EXPECT_EQ(test::EventReader::read(text_record(1, "t", words)).at(0).texts.at("t"), words) << length;
  }
}

TEST(EventRecords, AnyFlippedBitIsSeen) {
  const std::string good = scalars_record(5, 6, {{"train/loss", 0.25}});
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THROW(test::EventReader::read(bad), std::runtime_error) << bit;
  }
}

}  // namespace
}  // namespace fpdist::trainer
