// This library answers to the name libcuda.so.1: whoever asks whether a driver is there finds it. torch asks the driver
// whether a context exists; the rest of what its loader wants to see is here by name only.

extern "C" {

int cuDevicePrimaryCtxGetState(int, unsigned int* flags, int* is_active) { return *flags = 0, *is_active = 1, 0; }

#define FPDIST_NOT_SUPPORTED(name) \
  int name() { return 801; }
FPDIST_NOT_SUPPORTED(cuCtxGetCurrent)
FPDIST_NOT_SUPPORTED(cuCtxSetCurrent)
FPDIST_NOT_SUPPORTED(cuDeviceGet)
FPDIST_NOT_SUPPORTED(cuDeviceGetAttribute)
FPDIST_NOT_SUPPORTED(cuDevicePrimaryCtxRetain)
FPDIST_NOT_SUPPORTED(cuFuncGetAttribute)
FPDIST_NOT_SUPPORTED(cuFuncSetAttribute)
FPDIST_NOT_SUPPORTED(cuFuncSetCacheConfig)
FPDIST_NOT_SUPPORTED(cuGetErrorString)
FPDIST_NOT_SUPPORTED(cuLaunchCooperativeKernel)
FPDIST_NOT_SUPPORTED(cuLaunchKernel)
FPDIST_NOT_SUPPORTED(cuLinkAddData_v2)
FPDIST_NOT_SUPPORTED(cuLinkComplete)
FPDIST_NOT_SUPPORTED(cuLinkCreate_v2)
FPDIST_NOT_SUPPORTED(cuModuleGetFunction)
FPDIST_NOT_SUPPORTED(cuModuleLoad)
FPDIST_NOT_SUPPORTED(cuModuleLoadData)
FPDIST_NOT_SUPPORTED(cuModuleLoadDataEx)
FPDIST_NOT_SUPPORTED(cuModuleUnload)
FPDIST_NOT_SUPPORTED(cuOccupancyMaxActiveBlocksPerMultiprocessor)
FPDIST_NOT_SUPPORTED(cuPointerGetAttribute)
FPDIST_NOT_SUPPORTED(cuTensorMapEncodeTiled)

}  // extern "C"
