/* The NVML stub of the tests with the few more calls that other meters make.
 *
 * A GPU without an energy counter says that it is a Pascal, one with it that it is an Ampere: Zeus goes by that.
 */
#include "nvml_stub.c"

int nvmlDeviceGetArchitecture(void *handle, unsigned *architecture) {
    GPU(handle);
    const fault_t *f = fault(gpu, ERROR, "nvmlDeviceGetTotalEnergyConsumption", -1);
    return *architecture = f && (int)f->value == NOT_SUPPORTED ? 4 : 7, SUCCESS;
}

int nvmlDeviceGetComputeMode(void *handle, unsigned *mode) { GPU(handle); return *mode = 0, SUCCESS; }

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, void *infos) {
    (void)infos;
    GPU(handle);
    return *count = 0, SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, void *infos) {
    (void)infos;
    GPU(handle);
    return *count = 0, SUCCESS;
}

int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) { GPU(handle); return *mode = 1, SUCCESS; }
