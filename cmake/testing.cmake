# Places of `ctest -j4` on two cores: a core has two of them, so that tests that mostly wait (for deadlines, for what they
# start) take half of one.
set(fpdist_waits 1)
set(fpdist_one_core 2)
set(fpdist_two_cores 4)

# fpdist_register_test(name program [RANKS 1 2 8] [LABELS x] [TIMEOUT s] [ARGS ...] [ENVIRONMENT VAR=value ...])
# One run of a test program that is built already; RANKS: under mpirun, once for each count.
function(fpdist_register_test name program)
  cmake_parse_arguments(arg "" "TIMEOUT" "RANKS;LABELS;ARGS;ENVIRONMENT" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(arg_RANKS)
    foreach(ranks ${arg_RANKS})
      add_test(NAME ${name}.np${ranks} COMMAND ${fpdist_mpirun} -np ${ranks} $<TARGET_FILE:${program}> ${arg_ARGS})
      set_tests_properties(${name}.np${ranks} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS};mpi" PROCESSORS ${fpdist_two_cores}
        ENVIRONMENT "OMP_NUM_THREADS=1;${arg_ENVIRONMENT}")
    endforeach()
  else()
    add_test(NAME ${name} COMMAND ${program} ${arg_ARGS})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" PROCESSORS ${fpdist_one_core}
      ENVIRONMENT "OMP_NUM_THREADS=1;${arg_ENVIRONMENT}")
  endif()
endfunction()

# fpdist_add_test(name FILES a.cpp ... [PLANNING] [RANKS 1 2 8] [LABELS x] [TIMEOUT s] [ARGS ...])
# One GoogleTest program. PLANNING links the planning half only. RANKS runs it under mpirun once for each count.
# ob1: what Open MPI takes on a machine by itself, after 0.2 s of looking for a cluster's network.
set(fpdist_mpirun ${CMAKE_COMMAND} -E env OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_pml=ob1 ${MPIEXEC_EXECUTABLE})
# Who builds is who tests; Open MPI asks root, and root alone, to say twice that it is meant.
execute_process(COMMAND id -u OUTPUT_VARIABLE fpdist_user OUTPUT_STRIP_TRAILING_WHITESPACE)
if(fpdist_user STREQUAL "0")
  list(INSERT fpdist_mpirun 3 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
endif()

function(fpdist_add_test name)
  cmake_parse_arguments(arg "PLANNING" "TIMEOUT" "FILES;RANKS;LABELS;ARGS;LIBRARIES" ${ARGN})
  fpdist_add_test_program(${name} ${ARGN})
  fpdist_register_test(${name} ${name} RANKS ${arg_RANKS} LABELS ${arg_LABELS} TIMEOUT ${arg_TIMEOUT} ARGS ${arg_ARGS})
endfunction()

# Only the program; with RANKS a file of it has main.
function(fpdist_add_test_program name)
  cmake_parse_arguments(arg "PLANNING" "TIMEOUT" "FILES;RANKS;LABELS;ARGS;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_FILES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE FPDIST_SOURCE_DIR="${PROJECT_SOURCE_DIR}" FPDIST_BINARY_DIR="${PROJECT_BINARY_DIR}")
  if(arg_PLANNING)
    target_link_libraries(${name} PRIVATE fpdist_planning GTest::gtest_main ${arg_LIBRARIES})
    return()
  endif()
  target_link_libraries(${name} PRIVATE fpdist ${arg_LIBRARIES})
  target_precompile_headers(${name} REUSE_FROM fpdist_test_pch)
  if(arg_RANKS)
    target_link_libraries(${name} PRIVATE GTest::gtest)
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
endfunction()

# Ahead of a program: on the emulated GPU. For the program alone; a shell or mpirun need not load torch.
set(fpdist_emulated env LD_PRELOAD=$<TARGET_FILE:fpdist_emulated_gpu>)

# fpdist_register_gpu_test(name program [RANKS n] [LABELS x] [TIMEOUT s] [ARGS ...] [ENVIRONMENT VAR=value ...])
# A program that needs a GPU: as <name> with the label gpu, and as <name>.emulated (label emulated) on a GPU that the CPU
# emulates (tests/emulation). RANKS: under mpirun, sharing the GPU (launch/share_gpu.sh).
function(fpdist_register_gpu_test name program)
  cmake_parse_arguments(arg "" "TIMEOUT;RANKS" "LABELS;ARGS;ENVIRONMENT" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  add_dependencies(${program} fpdist_cuda)
  set(launcher "")
  set(labels ${arg_LABELS})
  if(arg_RANKS)
    set(launcher ${fpdist_mpirun} -np ${arg_RANKS} ${PROJECT_SOURCE_DIR}/launch/share_gpu.sh)
    list(APPEND labels mpi)
    string(APPEND name .np${arg_RANKS})
  endif()
  add_test(NAME ${name} COMMAND ${launcher} $<TARGET_FILE:${program}> ${arg_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "gpu;${labels}" RUN_SERIAL ON SKIP_RETURN_CODE 77
    ENVIRONMENT "OMP_NUM_THREADS=1;${arg_ENVIRONMENT}")
  if(TARGET fpdist_emulated_gpu)
    add_dependencies(${program} fpdist_emulated_gpu)
    add_test(NAME ${name}.emulated COMMAND ${launcher} ${fpdist_emulated} $<TARGET_FILE:${program}> ${arg_ARGS})
    list(REMOVE_ITEM labels small)
    set_tests_properties(${name}.emulated PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "emulated;${labels}" PROCESSORS ${fpdist_two_cores}
      ENVIRONMENT "OMP_NUM_THREADS=1;${arg_ENVIRONMENT}" FAIL_REGULAR_EXPRESSION "NOT RUN:")
  endif()
endfunction()

# The heavy headers for tests, compiled once.
add_library(fpdist_test_pch STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(fpdist_test_pch PUBLIC fpdist GTest::gtest)
# Tests are executables: their code is compiled with -fPIE, and a header compiled with -fPIC would be refused.
set_target_properties(fpdist_test_pch PROPERTIES POSITION_INDEPENDENT_CODE OFF)
target_compile_options(fpdist_test_pch PRIVATE -fPIE)
target_precompile_headers(fpdist_test_pch PRIVATE ${PROJECT_SOURCE_DIR}/cmake/pch.hpp <gtest/gtest.h>)
