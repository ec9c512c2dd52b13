// kernels/cuda/nf4.cu, compiled for the CPU.
#include "tests/support/cuda_emulation/emulation.h"
// The words above come first.
#include "kernels/cuda/nf4.cu"
