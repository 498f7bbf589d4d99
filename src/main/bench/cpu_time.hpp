#pragma once
// main (fpdist_bench): what the processors did meanwhile. Wall time on a machine that others use says little by itself.

namespace fpdist::bench {

/// Of this process, all its threads.
double process_cpu_seconds();

/// Since it was made.
class CpuUse {
 public:
  CpuUse();
  struct Used {
    double seconds;  ///< of processor, by this process
    double others;   ///< part of the machine's processors that others used; 0 where the system does not say
  };
  Used since() const;

 private:
  double own_, busy_, wall_;
};

}  // namespace fpdist::bench
