// The PTX machine: what instructions give, how lanes and warps go on, and every fault that it is to see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/emulation/ptx/ptx_case.hpp"

namespace fpdist::ptx {
namespace {

using testing::HasSubstr;

std::string hexes(uint32_t bits) {
  char text[16];
  std::snprintf(text, sizeof text, "0f%08X", bits);
  return text;
}
std::string number(float x) { return hexes(std::bit_cast<uint32_t>(x)); }
const std::string kStore = " st.global.u32 [%rd1], %r1;", kStoreFloat = " st.global.f32 [%rd1], %f1;";

uint32_t first_of(const std::string& body) { return words_of(body)[0]; }
float float_of(const std::string& body) { return std::bit_cast<float>(first_of(body + kStoreFloat)); }

TEST(Alu, IntegersWrapAndShiftAsPtxSays) {
  const auto of = [](const std::string& instruction) { return first_of(instruction + kStore); };
  EXPECT_EQ(of("add.s32 %r1, -1, 3;"), 2u);
  EXPECT_EQ(of("mul.lo.s32 %r1, 0x10001, 0x10001;"), 0x20001u);
  EXPECT_EQ(of("mul.hi.u32 %r1, 0x80000000, 6;"), 3u);
  EXPECT_EQ(of("mul.hi.s32 %r1, -1, 6;"), ~0u);
  EXPECT_EQ(of("mad.lo.s32 %r1, 7, 6, -2;"), 40u);
  EXPECT_EQ(of("div.s32 %r1, -7, 2;"), static_cast<uint32_t>(-3));
  EXPECT_EQ(of("rem.u32 %r1, 7, 4;"), 3u);
  EXPECT_EQ(of("shl.b32 %r1, 1, 31;"), 0x80000000u);
  EXPECT_EQ(of("shl.b32 %r1, 1, 32;"), 0u);
  EXPECT_EQ(of("shr.s32 %r1, -8, 40;"), ~0u);
  EXPECT_EQ(of("shr.u32 %r1, -8, 40;"), 0u);
  EXPECT_EQ(of("bfi.b32 %r1, 0xff, 0, 8, 4;"), 0xf00u);
  EXPECT_EQ(of("bfe.u32 %r1, 0x12345678, 8, 8;"), 0x56u);
  EXPECT_EQ(of("prmt.b32 %r1, 0x33221100, 0x77665544, 0x7531;"), 0x77553311u);
  EXPECT_EQ(of("clz.b32 %r1, 0x10;"), 27u);
}

TEST(Alu, FloatsRoundOnceAndNumbersWinOverNans) {
  EXPECT_EQ(float_of("fma.rn.f32 %f1, " + number(1 + 0x1p-12f) + ", " + number(1 - 0x1p-12f) + ", " + number(-1) + ";"),
            -0x1p-24f);
  EXPECT_EQ(float_of("max.f32 %f1, " + number(std::nanf("")) + ", " + number(2) + ";"), 2.0f);
  EXPECT_EQ(float_of("div.approx.f32 %f1, " + number(1) + ", " + number(INFINITY) + ";"), 0.0f);
  EXPECT_EQ(float_of("div.approx.f32 %f1, " + number(5) + ", " + number(0x1p127f) + ";"), 0.0f);
  EXPECT_EQ(float_of("ex2.approx.f32 %f1, " + number(-INFINITY) + ";"), 0.0f);
  EXPECT_EQ(float_of("ex2.approx.f32 %f1, " + number(-130) + ";"), std::ldexp(1.0f, -130));
  EXPECT_EQ(float_of("ex2.approx.ftz.f32 %f1, " + number(-130) + ";"), 0.0f);
  EXPECT_EQ(float_of("cvt.rn.f32.s32 %f1, -3;"), -3.0f);
}

TEST(Alu, FlushingTakesWhatIsNotNormalForZero) {
  EXPECT_EQ(float_of("ex2.approx.f32 %f1, " + number(-127) + ";"), 0x1p-127f);
  EXPECT_EQ(float_of("ex2.approx.ftz.f32 %f1, " + number(-127) + ";"), 0.0f);
  EXPECT_EQ(float_of("ex2.approx.ftz.f32 %f1, " + number(-126) + ";"), 0x1p-126f);
  EXPECT_EQ(float_of("lg2.approx.ftz.f32 %f1, " + number(0x1p-127f) + ";"), -INFINITY);
  EXPECT_EQ(float_of("lg2.approx.ftz.f32 %f1, " + number(8) + ";"), 3.0f);
}

TEST(Convert, BfloatsRoundToEvenAndTheFirstOperandIsTheUpperHalf) {
  const float tie = 1 + 0x1p-8f, above = tie + 0x1p-20f;  // half a unit above 1, and a little more
  EXPECT_EQ(first_of("cvt.rn.bf16x2.f32 %r1, " + number(above) + ", " + number(tie) + ";" + kStore), 0x3f813f80u);
  EXPECT_EQ(first_of("cvt.rn.bf16x2.f32 %r1, " + number(NAN) + ", " + number(2) + ";" + kStore), 0x7fff4000u);
}

TEST(Convert, HalvesRoundToEvenOverflowAndHaveSmallOnes) {
  const auto of = [](float high, float low) {
    return first_of("cvt.rn.f16x2.f32 %r1, " + number(high) + ", " + number(low) + ";" + kStore);
  };
  const float tie = 1 + 0x1p-11f;  // half a unit above 1
  EXPECT_EQ(of(tie, tie + 0x1p-20f), 0x3c003c01u);
  EXPECT_EQ(of(65519, -65520), 0x7bfffc00u);
  EXPECT_EQ(of(0x1p-24f, 0x1p-25f), 0x00010000u);
  EXPECT_EQ(of(NAN, -0x1.8p-15f), 0x7fff8300u);
  for (const float x : {-0x1.8p-15f, 65504.0f, 0x1p-24f, 0.0f})
    EXPECT_EQ(float_of("cvt.rn.f16x2.f32 %r1, 0f00000000, " + number(x) + ";\n cvt.u16.u32 %rs1, %r1;\n" +
                       " cvt.f32.f16 %f1, %rs1;"),
              x);
}

TEST(Convert, FloatsBecomeTheNearestIntegerThatFits) {
  const auto of = [](const std::string& how, float x) {
    return first_of("cvt." + how + ".f32 %r1, " + number(x) + ";" + kStore);
  };
  EXPECT_EQ(of("rni.s32", 2.5f), 2u);
  EXPECT_EQ(of("rzi.s32", -2.9f), static_cast<uint32_t>(-2));
  EXPECT_EQ(of("rzi.u32", -5), 0u);
  EXPECT_EQ(of("rzi.s32", 1e20f), 0x7fffffffu);
  EXPECT_EQ(of("rzi.s32", NAN), 0u);
}

TEST(Compare, UnorderedComparisonsHoldWithNans) {
  const auto of = [](const std::string& how, float x, float y) {
    return first_of("setp." + how + ".f32 %p1, " + number(x) + ", " + number(y) + "; selp.u32 %r1, 1, 0, %p1;" +
                    kStore);
  };
  for (const char* const ordered : {"eq", "ne", "lt", "le", "gt", "ge"}) EXPECT_EQ(of(ordered, NAN, 1), 0u) << ordered;
  for (const char* const any : {"equ", "neu", "ltu", "leu", "gtu", "geu"}) EXPECT_EQ(of(any, NAN, 1), 1u) << any;
  EXPECT_EQ(of("leu", 2, 1), 0u);
  for (const auto& [value, taken] : {std::pair{"0", 0u}, {"-1", 1u}})
    EXPECT_EQ(first_of("mov.pred %p1, " + std::string(value) + "; selp.u32 %r1, 1, 0, %p1;" + kStore), taken);
  EXPECT_EQ(first_of("setp.lt.s16 %p1, %rs1, 0; selp.u32 %r1, 1, 0, %p1;" + std::string(kStore)), 1u);  // all ones
  EXPECT_EQ(first_of("setp.eq.u32 %p0, 1, 1; setp.eq.and.s32 %p1, 1, 1, !%p0; selp.u32 %r1, 1, 0, %p1;" + kStore), 0u);
}

TEST(Move, PacksLowHalvesFirst) {
  EXPECT_EQ(first_of("mov.u16 %rs1, 0x1234; mov.u16 %rs2, 0x5678; mov.b32 %r1, {%rs1, %rs2};" + kStore), 0x56781234u);
  EXPECT_EQ(first_of("mov.b64 %rd2, {%r0, %r0}; mov.b64 {%r2, %r1}, %rd2;" + kStore), 0u);
}

TEST(Shuffle, EveryDirectionAndItsSegment) {
  const auto of = [](const std::string& how) { return words_of("shfl.sync." + how + ", -1;" + kStore); };
  for (uint32_t lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(of("bfly.b32 %r1, %r0, 5, 31")[lane], lane ^ 5);
    EXPECT_EQ(of("idx.b32 %r1, %r0, 3, 0x1807")[lane], (lane & 24) + 3);  // segments of eight
    EXPECT_EQ(of("down.b32 %r1, %r0, 2, 31")[lane], lane < 30 ? lane + 2 : lane);
    EXPECT_EQ(of("up.b32 %r1, %r0, 2, 0")[lane], lane >= 2 ? lane - 2 : lane);
  }
}

TEST(Divergence, LanesMeetAgainBehindAnIf) {
  const auto out = words_of(R"(setp.lt.u32 %p1, %r0, 7; @!%p1 bra OTHER; mov.u32 %r1, 1; bra JOIN;
      OTHER: mov.u32 %r1, 2;
      JOIN: shfl.sync.bfly.b32 %r2, %r1, 16, 31, -1; add.s32 %r1, %r1, %r2;)" +
                            kStore);
  for (uint32_t lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], lane % 16 < 7 ? 3u : 4u);
}

TEST(Divergence, LoopsOfDifferentLengthEndTogether) {
  const auto out = words_of(R"(mov.u32 %r1, 0; LOOP: add.s32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, %r0; @%p1 bra LOOP;
      bar.warp.sync -1;)" + kStore);
  for (uint32_t lane = 0; lane < 32; ++lane) EXPECT_EQ(out[lane], std::max(lane, 1u));
}

// Thread i writes i to shared memory and reads its neighbour's in the next warp.
std::string neighbours(const std::string& between) {
  return R"(.shared .align 4 .b8 s[512]; mov.u32 %r2, s; shl.b32 %r3, %r0, 2; add.s32 %r4, %r2, %r3;
      st.shared.u32 [%r4], %r0;)" +
         between + R"( xor.b32 %r5, %r3, 128; add.s32 %r5, %r2, %r5; ld.shared.u32 %r1, [%r5];)" + kStore;
}

TEST(Barrier, OrdersWarpsWhateverTheSeed) {
  for (const uint64_t seed : {0, 1, 2, 3}) {
    const auto out = words_of(neighbours("bar.sync 0;"), 128, {.seed = seed});
    for (uint32_t thread = 0; thread < 128; ++thread) EXPECT_EQ(out[thread], thread ^ 32);
  }
}

/// Warp 0 waits at barrier 1 for what warp 1 wrote; that one comes there by `how` and goes on.
std::string waits_for_the_next_warp(const std::string& how) {
  return neighbours("setp.lt.u32 %p1, %r0, 32; @%p1 bra FIRST; " + how +
                    " bra END; FIRST: bar.sync 1, 64; bra READ; END: mov.u32 %r3, %r3; bra OVER; READ:") +
         " OVER: bar.warp.sync -1;";
}

TEST(Barrier, WhoOnlyArrivesGivesWhatItWroteAndGoesOn) {
  for (const uint64_t seed : {0, 1, 2, 3}) {
    const auto out = words_of(waits_for_the_next_warp("bar.arrive 1, 64;"), 64, {.seed = seed});
    for (uint32_t thread = 0; thread < 32; ++thread) EXPECT_EQ(out[thread], thread + 32);
  }
}

/// Thread 0 sends for `bytes` of what the warp wrote at %rd0; then every thread reads its neighbour's word.
std::string copies_a_run(const std::string& bytes) {
  return R"(.shared .align 16 .b8 s[128]; .shared .align 8 .b8 b[8]; mov.u32 %r2, s; mov.u32 %r3, b;
      st.global.u32 [%rd1], %r0; setp.ne.u32 %p1, %r0, 0; @%p1 bra WAIT; mbarrier.init.shared::cta.b64 [%r3], 1;
      fence.mbarrier_init.release.cluster; mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 128;
      cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0], )" +
         bytes + R"(, [%r3]; WAIT: bar.warp.sync -1;
      AGAIN: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r3], 0; @!%p2 bra AGAIN;
      shl.b32 %r4, %r0, 2; xor.b32 %r4, %r4, 4; add.s32 %r4, %r2, %r4; ld.shared.u32 %r1, [%r4];)" +
         kStore;
}

TEST(BulkCopy, BringsARunOfBytes) {
  Counters counters;
  const auto out = words_of(copies_a_run("128"), 32, {}, &counters);
  for (uint32_t thread = 0; thread < 32; ++thread) EXPECT_EQ(out[thread], thread ^ 1);
  EXPECT_EQ(counters.tma_bytes, 128u);
}

TEST(Counters, SectorsWavesAndInstructions) {
  Counters counters;
  words_of("mov.u32 %r1, 1;" + kStore, 64, {.counts_instructions = true}, &counters);
  EXPECT_EQ(counters.global_requests, 2u);
  EXPECT_EQ(counters.global_sectors, 8u);
  EXPECT_EQ(counters.least_sectors, 8u);
  EXPECT_EQ(counters.by_instruction.at("st.global.u32"), 2u);
  EXPECT_EQ(counters.warp_instructions, 2u * 7);
  Counters conflicts;
  words_of(R"(.shared .align 4 .b8 s[4096]; mov.u32 %r2, s; shl.b32 %r3, %r0, 7; add.s32 %r2, %r2, %r3;
      st.shared.u32 [%r2], %r0; ld.shared.u32 %r1, [%r2];)" +
               kStore,
           32, {}, &conflicts);
  EXPECT_EQ(conflicts.shared_waves, 64u);
  EXPECT_EQ(conflicts.least_shared_waves, 2u);
}

TEST(Parse, RefusesWhatItDoesNotKnowWithItsText) {
  for (const char* const unknown : {"add.sat.s32 %r1, %r0, 1;", "frobnicate.u32 %r1;", "ld.weird.u32 %r1, [%rd1];",
                                    "mov.u32 %r1, %clock;", "add.s32 %r1, %rd1, 1;", ".local .align 4 .b8 d[4];"}) {
    const std::string report = report_of([&] { words_of(unknown); });
    EXPECT_THAT(report, HasSubstr(std::string(unknown).substr(0, 10)));
    EXPECT_THAT(report, HasSubstr("here.cu:1"));
  }
}

TEST(Parse, SaysWhatMayBeReadBeforeItIsWritten) {
  const Module module = parse(kernel_text("add.s32 %r1, %r2, 1; mov.u32 %r3, %r1; ret;"));
  ASSERT_EQ(module.at("k")->read_before_written.size(), 1u);
  EXPECT_THAT(module.at("k")->read_before_written[0], HasSubstr("add.s32 %r1, %r2, 1"));
}

TEST(Colour, LivesThatDoNotTouchShareARegister) {
  std::string body = "mov.u32 %r1, 1;";
  for (int i = 2; i < 16; ++i) body += "add.s32 %r" + std::to_string(i) + ", %r" + std::to_string(i - 1) + ", 1;";
  const Module module = parse(kernel_text(body + "ret;"));
  EXPECT_LE(module.at("k")->registers[0], 5u);  // the sink, the constant, two in turn
}

// --- faults
// -----------------------------------------------------------------------------------------------------------

TEST(Fault, NoBarrierBetweenAWriteAndAnotherWarpsRead) {
  const std::string report = report_of([] { words_of(neighbours(""), 128); });
  EXPECT_THAT(report, testing::AnyOf(HasSubstr("nobody has written"), HasSubstr("races: reads shared")));
}
TEST(Fault, ReadingAnotherLanesWriteWithinTheWarp) {
  FPDIST_EXPECT_REPORT(
      [] {
        words_of(R"(.shared .align 4 .b8 s[128]; mov.u32 %r2, s; shl.b32 %r3, %r0, 2; add.s32 %r4, %r2, %r3;
        st.shared.u32 [%r4], %r0; xor.b32 %r3, %r3, 4; add.s32 %r4, %r2, %r3; ld.shared.u32 %r1, [%r4];)" +
                 kStore);
      },
      "races: reads shared");
}
TEST(Fault, OverwritingWhatAnotherWarpStillReads) {
  const std::string body = neighbours("bar.sync 0;") + " st.shared.u32 [%r4], 1;";
  FPDIST_EXPECT_REPORT([&] { words_of(body, 64, {.turn = 64}); }, "races: reads shared");  // the writer came first
  FPDIST_EXPECT_REPORT([&] { words_of(body, 64, {.turn = 1}); }, "races: writes shared");  // the reader did
}
TEST(Fault, SharedMemoryNobodyWrote) {
  FPDIST_EXPECT_REPORT([] { words_of(".shared .align 4 .b8 s[4]; mov.u32 %r2, s; ld.shared.u32 %r1, [%r2];"); },
                       "nobody has written");
}
TEST(Fault, SharedBoundsAndAlignment) {
  FPDIST_EXPECT_REPORT([] { words_of(".shared .align 4 .b8 s[4]; mov.u32 %r2, s; ld.shared.u32 %r1, [%r2+4];"); },
                       "outside the block's shared memory");
  FPDIST_EXPECT_REPORT([] { words_of(".shared .align 4 .b8 s[8]; mov.u32 %r2, s; ld.shared.u32 %r1, [%r2+2];"); },
                       "misaligned");
}
TEST(Fault, GlobalBoundsTellHowFar) {
  FPDIST_EXPECT_REPORT([] { words_of("st.global.u32 [%rd1+4], 1;"); },
                       "lane 31, here.cu:1: `st.global.u32 [%rd1+4], 1` writes outside every allocation");
  FPDIST_EXPECT_REPORT([] { words_of("st.global.u32 [%rd1+4], 1;"); }, "4 bytes past the end of one of 128");
  FPDIST_EXPECT_REPORT([] { words_of("ld.global.u32 %r1, [%rd1+2];"); }, "misaligned");
}
TEST(Fault, GlobalMemoryNobodyWrote) {
  FPDIST_EXPECT_REPORT([] { words_of("ld.global.u32 %r1, [%rd1];"); }, "nobody has written");
}
TEST(Fault, BlocksThatWriteTheSameWord) {
  const Module module = parse(kernel_text(load_parameters(1) + "st.global.u32 [%rd0], 1; ret;"));
  std::vector<uint32_t> out(1);
  TestMemory memory;
  memory.add(out.data(), 4, true);
  Counters counters;
  const Launch launch{.grid = {2, 1, 1}, .parameters = parameters_of({reinterpret_cast<uint64_t>(out.data())})};
  FPDIST_EXPECT_REPORT([&] { run(*module.at("k"), launch, memory, {}, counters); }, "another block uses");
}
TEST(Fault, ABarrierThatNotAllWarpsReach) {
  FPDIST_EXPECT_REPORT(
      [] { words_of("setp.lt.u32 %p1, %r0, 32; @%p1 bra END; bar.sync 0; END: bar.warp.sync -1;", 64); },
      "deadlock in block (0,0,0): warp 1 waits at barrier 0");
}
TEST(Fault, AnArrivalThatNobodyWaitsFor) {
  FPDIST_EXPECT_REPORT([] { words_of("bar.arrive 2, 64;"); }, "ends with 1 of 2 warps come to barrier 2");
}
TEST(Fault, ARunThatIsNoWholeNumberOf16Bytes) {
  FPDIST_EXPECT_REPORT([] { words_of(copies_a_run("120")); }, "copies no whole number of 16 bytes");
  FPDIST_EXPECT_REPORT([] { words_of(copies_a_run("144")); }, "reads outside every allocation");
}
TEST(Fault, ABarrierInHalfAWarp) {
  FPDIST_EXPECT_REPORT(
      [] {
        words_of(
            R"(setp.lt.u32 %p1, %r0, 16; @%p1 bra OTHER; bar.sync 0; bra END; OTHER: bar.sync 1; END: mov.u32 %r1, 0;)");
      },
      "divergent: lanes");
}
TEST(Fault, AShuffleWithALaneThatIsGone) {
  FPDIST_EXPECT_REPORT([] { words_of("setp.eq.u32 %p1, %r0, 3; @%p1 ret; shfl.sync.bfly.b32 %r1, %r0, 1, 31, -1;"); },
                       "names lanes that have exited: 0x8");
}
TEST(Fault, MoreThreadsThanTheKernelIsBuiltFor) {
  FPDIST_EXPECT_REPORT([] { words_of("", 64, {}, nullptr, ".maxntid 32, 1, 1"); }, "more threads than .maxntid");
}
TEST(Fault, ATrap) {
  FPDIST_EXPECT_REPORT([] { words_of("trap;"); }, "was reached");
}

}  // namespace
}  // namespace fpdist::ptx
