#include "launch/version.h"

#include <H5public.h>
#include <mpi.h>

#include "kernels/cpu_level.h"
#include "src/base/text.h"

namespace dfmoa::launch {

std::string version_text() {
  return base::text("dfmoa ", DFMOA_VERSION, "\ntorch ", TORCH_VERSION, "\nCUDA ", DFMOA_CUDA_TEXT,
                    "\nMPI ", MPI_VERSION, ".", MPI_SUBVERSION, " (Open MPI ", OMPI_MAJOR_VERSION,
                    ".", OMPI_MINOR_VERSION, ".", OMPI_RELEASE_VERSION, ")\nHDF5 ", H5_VERS_MAJOR,
                    ".", H5_VERS_MINOR, ".", H5_VERS_RELEASE, "\nbuild ", DFMOA_BUILD_TYPE,
                    "\nCPU level ", kernels::name_of(kernels::cpu_level()), "\n");
}

}  // namespace dfmoa::launch
