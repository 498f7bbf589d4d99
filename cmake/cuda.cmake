# libfpdist_cuda.so: made where a CUDA 13 toolkit, NCCL and torch's CUDA libraries are, GPU or not; opened at run time.
# Folders add their sources to it: if(TARGET fpdist_cuda) target_sources(fpdist_cuda PRIVATE ...).
option(FPDIST_CUDA "Build libfpdist_cuda where a CUDA toolkit is" ON)
set(fpdist_nvidia_dir "${FPDIST_TORCH_DIR}/../nvidia")
set(fpdist_cuda_lacks "")
if(NOT FPDIST_CUDA)
  set(fpdist_cuda_lacks "FPDIST_CUDA is off")
else()
  find_package(CUDAToolkit 13 QUIET)
  file(GLOB fpdist_nccl_hints "${fpdist_nvidia_dir}/*/include" "${fpdist_nvidia_dir}/*/lib")
  find_path(FPDIST_NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${fpdist_nccl_hints})
  find_library(FPDIST_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} ${fpdist_nccl_hints})
  mark_as_advanced(FPDIST_NCCL_INCLUDE_DIR FPDIST_NCCL_LIBRARY)
  if(NOT CUDAToolkit_FOUND)
    set(fpdist_cuda_lacks "no CUDA 13 toolkit")
  elseif(NOT EXISTS "${FPDIST_TORCH_DIR}/lib/libtorch_cuda.so" OR NOT EXISTS "${FPDIST_TORCH_DIR}/lib/libc10_cuda.so")
    set(fpdist_cuda_lacks "no libtorch_cuda.so in ${FPDIST_TORCH_DIR}/lib")
  elseif(NOT FPDIST_NCCL_INCLUDE_DIR OR NOT FPDIST_NCCL_LIBRARY)
    set(fpdist_cuda_lacks "no nccl.h and libnccl.so")
  else()
    file(STRINGS "${FPDIST_NCCL_INCLUDE_DIR}/nccl.h" fpdist_nccl_lines REGEX "^#define NCCL_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9;]" "" fpdist_nccl_version "${fpdist_nccl_lines}")
    string(REPLACE ";" "." fpdist_nccl_version "${fpdist_nccl_version}")
    if(fpdist_nccl_version VERSION_LESS 2.28)
      set(fpdist_cuda_lacks "NCCL is ${fpdist_nccl_version}, at least 2.28 is needed")
    endif()
  endif()
endif()

if(fpdist_cuda_lacks)
  message(STATUS "fpdist: CPU only (${fpdist_cuda_lacks})")
else()
  message(STATUS "fpdist: libfpdist_cuda with CUDA ${CUDAToolkit_VERSION}, NCCL ${fpdist_nccl_version}")
  # PTX beside SASS, as plain text: tests/emulation/ptx runs it where no GPU is.
  set(CMAKE_CUDA_COMPILER "${CUDAToolkit_NVCC_EXECUTABLE}")
  set(CMAKE_CUDA_ARCHITECTURES 90a)
  set(CMAKE_CUDA_FLAGS_INIT "--no-compress -lineinfo")
  if(FPDIST_CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${FPDIST_CCACHE})
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")  # CMake 3.25 does not know that nvcc can
  add_library(fpdist_cuda SHARED)
  target_include_directories(fpdist_cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(fpdist_cuda SYSTEM PRIVATE ${FPDIST_NCCL_INCLUDE_DIR})
  # --no-as-needed: libtorch_cuda registers its operators when it is loaded, whether or not a symbol of it is named.
  target_link_libraries(fpdist_cuda PUBLIC fpdist PRIVATE
    -Wl,--no-as-needed "${FPDIST_TORCH_DIR}/lib/libtorch_cuda.so" "${FPDIST_TORCH_DIR}/lib/libc10_cuda.so" -Wl,--as-needed
    CUDA::cudart CUDA::cublasLt "${FPDIST_NCCL_LIBRARY}")
  # DT_RPATH, not DT_RUNPATH: libtorch_cuda's own dependencies are looked for in it too.
  target_link_options(fpdist_cuda PRIVATE "LINKER:--disable-new-dtags")
  file(GLOB fpdist_nvidia_lib_dirs "${fpdist_nvidia_dir}/*/lib")
  set_target_properties(fpdist_cuda PROPERTIES
    BUILD_RPATH "$ORIGIN;${FPDIST_TORCH_DIR}/lib;${fpdist_nvidia_lib_dirs};${CUDAToolkit_LIBRARY_DIR}")
  target_compile_options(fpdist_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>")  # as the header that it takes was compiled
  target_precompile_headers(fpdist_cuda REUSE_FROM fpdist_operator_objects)
endif()
