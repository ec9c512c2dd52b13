# How every target of the project is made: the same warnings, include root and precompiled header.
add_library(dfmoa_flags INTERFACE)
target_include_directories(dfmoa_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(dfmoa_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror -Winvalid-pch -Werror=invalid-pch
  -Wno-restrict  # GCC 12 warns falsely of std::string insertions (its bug 105651)
  -ffp-contract=off)  # a fused multiply-add would change bits between compilers

# dfmoa_library(NAME SOURCES ... LINKS ...): torch-free. Unity files (preset ci) pay only where
# torch is included; here they would make file-local names clash.
function(dfmoa_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  target_link_libraries(${name} PUBLIC dfmoa_flags ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
endfunction()

# dfmoa_torch_library(NAME SOURCES ... LINKS ...): on the shared precompiled torch header.
function(dfmoa_torch_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC dfmoa_flags dfmoa_torch ${ARG_LINKS}
                        PRIVATE ${ARG_PRIVATE_LINKS})
  target_precompile_headers(${name} REUSE_FROM dfmoa_torch_pch)
  set_target_properties(${name} PROPERTIES UNITY_BUILD_BATCH_SIZE 8)
endfunction()

# An executable on the shared precompiled header: it must be compiled as the header was, with -fPIC,
# where CMake would give an executable -fPIE.
function(dfmoa_torch_executable name)
  target_link_libraries(${name} PRIVATE dfmoa_torch)
  target_precompile_headers(${name} REUSE_FROM dfmoa_torch_pch)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF UNITY_BUILD_BATCH_SIZE 8)
  target_compile_options(${name} PRIVATE -fPIC)
endfunction()

# dfmoa_test(NAME SOURCES ... LINKS ... [TORCH] [LABEL unit]): one test binary per layer.
function(dfmoa_test name)
  cmake_parse_arguments(ARG "TORCH" "LABEL" "SOURCES;LINKS" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE dfmoa_flags ${ARG_LINKS} GTest::gtest_main)
  # GCC 12 at -O3 takes temporaries in initialiser lists for uninitialised (a false alarm).
  target_compile_options(${name} PRIVATE -Wno-maybe-uninitialized)
  if(ARG_TORCH)
    dfmoa_torch_executable(${name})
  else()
    set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  endif()
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 300 ENVIRONMENT "OMP_NUM_THREADS=2")
endfunction()

# dfmoa_mpi_test(NAME PROCESSES 1 2 3 4 SOURCES ... LINKS ...): the same binary under mpirun; its
# main (tests/support/mpi_main.cpp) fails when no test was selected, aborts all on a lone error.
function(dfmoa_mpi_test name)
  cmake_parse_arguments(ARG "TORCH" "" "PROCESSES;SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES} ${CMAKE_SOURCE_DIR}/tests/support/mpi_main.cpp)
  set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  target_link_libraries(${name} PRIVATE dfmoa_flags ${ARG_LINKS} GTest::gtest MPI::MPI_C)
  if(ARG_TORCH)
    dfmoa_torch_executable(${name})
  endif()
  foreach(processes ${ARG_PROCESSES})
    add_test(NAME ${name}.np${processes}
      COMMAND ${MPIEXEC_EXECUTABLE} -n ${processes} --oversubscribe --bind-to none
              --mca btl self,vader --mca mpi_yield_when_idle 1 $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.np${processes} PROPERTIES LABELS mpi TIMEOUT 60 PROCESSORS 2
      ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  endforeach()
endfunction()
