# Third-party libraries, all as SYSTEM imported targets.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
target_compile_definitions(MPI::MPI_C INTERFACE OMPI_SKIP_MPICXX)  # its C++ bindings are not linked
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(spdlog REQUIRED)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
if(DFMOA_TESTS)
  find_package(GTest REQUIRED)
endif()

# LibTorch is the PyPI wheel in .venv. Its folder is found without importing it: the import needs
# packages that the library does not.
set(DFMOA_PYTHON ${CMAKE_SOURCE_DIR}/.venv/bin/python CACHE FILEPATH "Interpreter with torch")
execute_process(
  COMMAND ${DFMOA_PYTHON} -c
          "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  OUTPUT_VARIABLE DFMOA_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE torch_missing)
if(torch_missing)
  message(FATAL_ERROR "LibTorch was not found through ${DFMOA_PYTHON}: run ci/setup.sh first")
endif()
set(DFMOA_TORCH_PIN 2.11.0)
file(STRINGS ${DFMOA_TORCH_DIR}/version.py torch_version REGEX "^__version__")
if(NOT torch_version MATCHES "${DFMOA_TORCH_PIN}")
  message(FATAL_ERROR "LibTorch: found ${torch_version}, expected ${DFMOA_TORCH_PIN} (ci/setup.sh)")
endif()

# libtorch_cpu.so of this wheel needs libcudart and libcupti even without a GPU: from the toolkit,
# else from the small wheels beside torch.
find_library(DFMOA_CUDART NAMES libcudart.so.13
             PATHS /usr/local/cuda/lib64 ${DFMOA_TORCH_DIR}/../nvidia/cu13/lib NO_DEFAULT_PATH)
find_library(DFMOA_CUPTI NAMES libcupti.so.13
             PATHS /usr/local/cuda/lib64 /usr/local/cuda/extras/CUPTI/lib64
                   ${DFMOA_TORCH_DIR}/../nvidia/cu13/lib NO_DEFAULT_PATH)
if(NOT DFMOA_CUDART OR NOT DFMOA_CUPTI)
  message(FATAL_ERROR "libcudart.so.13 or libcupti.so.13 was not found: run ci/setup.sh first")
endif()
cmake_path(GET DFMOA_CUDART PARENT_PATH cudart_dir)
cmake_path(GET DFMOA_CUPTI PARENT_PATH cupti_dir)
set(DFMOA_TORCH_RUNTIME ${DFMOA_TORCH_DIR}/lib ${cudart_dir} ${cupti_dir})

add_library(dfmoa_torch INTERFACE)
target_include_directories(dfmoa_torch SYSTEM INTERFACE
  ${DFMOA_TORCH_DIR}/include ${DFMOA_TORCH_DIR}/include/torch/csrc/api/include)
set(torch_libraries ${DFMOA_TORCH_DIR}/lib/libtorch_cpu.so ${DFMOA_TORCH_DIR}/lib/libc10.so)
if(DFMOA_CUDA)  # nothing names a symbol of theirs: being loaded is what registers the device
  list(APPEND torch_libraries
       ${DFMOA_TORCH_DIR}/lib/libtorch_cuda.so ${DFMOA_TORCH_DIR}/lib/libc10_cuda.so)
endif()
# In one list: CMake writes a repeated flag once, and the linker would drop what comes after it.
target_link_libraries(dfmoa_torch INTERFACE
  -Wl,--no-as-needed ${torch_libraries} -Wl,--as-needed Threads::Threads)
# at::parallel_for is serial in a file compiled without OpenMP. The runtime is torch's own copy: a
# second one would oversubscribe the cores.
target_compile_options(dfmoa_torch INTERFACE -fopenmp)
target_link_libraries(dfmoa_torch INTERFACE ${DFMOA_TORCH_DIR}/lib/libgomp.so.1)
foreach(folder ${DFMOA_TORCH_RUNTIME})
  target_link_options(dfmoa_torch INTERFACE -Wl,-rpath,${folder} -Wl,-rpath-link,${folder})
endforeach()
