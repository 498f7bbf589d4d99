# libtorch by hand: torch's own CMake package insists on a whole CUDA set-up, the CPU half needs two libraries.
set(fpdist_torch_hint "run launch/setup.sh, or pass -DFPDIST_TORCH_DIR=<the torch package's folder>")
if(NOT EXISTS "${FPDIST_TORCH_DIR}/include/ATen/core/Tensor.h")
  message(FATAL_ERROR "no torch in ${FPDIST_TORCH_DIR}: ${fpdist_torch_hint}")
endif()

add_library(fpdist_torch INTERFACE)
target_include_directories(fpdist_torch SYSTEM INTERFACE
  "${FPDIST_TORCH_DIR}/include" "${FPDIST_TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(fpdist_torch INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
# libtorch_cpu carries DT_NEEDED entries for libcudart and libcupti; its own rpath finds them beside torch.
target_link_options(fpdist_torch INTERFACE
  "LINKER:--allow-shlib-undefined" "LINKER:-rpath,${FPDIST_TORCH_DIR}/lib")
target_link_libraries(fpdist_torch INTERFACE
  "${FPDIST_TORCH_DIR}/lib/libtorch_cpu.so" "${FPDIST_TORCH_DIR}/lib/libc10.so")

# ATen's parallel_for is parallel in the sources alone that are compiled for OpenMP. The runtime is the one that torch
# brings: two in a process would have two pools of threads.
find_package(OpenMP REQUIRED COMPONENTS CXX)
file(GLOB fpdist_openmp_runtime "${FPDIST_TORCH_DIR}/lib/libgomp*.so*")
if(NOT fpdist_openmp_runtime)
  set(fpdist_openmp_runtime ${OpenMP_CXX_LIBRARIES})
endif()
add_library(fpdist_openmp INTERFACE)
target_compile_options(fpdist_openmp INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>")
target_link_libraries(fpdist_openmp INTERFACE ${fpdist_openmp_runtime})
