/* A stand-in for libnvidia-ml.so.1 whose GPUs follow waveforms with a known energy.
 *
 * Everything it answers comes from the file that NVML_STUB_STATE names, mapped when NVML is initialised:
 * the clock, the GPUs, their waveforms and their faults. nvml.py writes that file; both lay it out alike.
 * The formulas are those of waveform.py and meter.py, written a second time so that one checks the other.
 * Names, codes and structures are those of NVIDIA's public header nvml.h.
 */
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x4d4c4331, MAX_GPUS = 16, MAX_PIECES = 256, MAX_FAULTS = 16, MAX_SLICES = 7, SCOPES = 3 };
enum { ERROR = 1, HANG, VALUE, FROZEN, RESET };
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, VERSION_MISMATCH = 18, ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct { double duration_s, start_w, end_w; } piece_t;
typedef struct { char call[48]; int64_t kind; double start_s, end_s, value; } fault_t;
typedef struct {
    char uuid[96], name[96];
    piece_t pieces[MAX_PIECES];
    int64_t piece_count, repeats;
    double swing_w, swing_period_s, swing_phase;
    fault_t faults[MAX_FAULTS];
    int64_t fault_count, first_mj, limit_mw, mig_mode, sample_count, slice_count;
    int64_t slices[MAX_SLICES];
    double counter_refresh_s, power_refresh_s, power_window_s, instant_window_s, average_window_s, sample_period_s;
    double scopes[SCOPES]; /* power of GPU, module and memory over that of the GPU; 0: not told */
} gpu_t;
typedef struct {
    int64_t magic, size, is_virtual, now_ns, origin_ns, wall_offset_ns, latency_ns, call_count, gpu_count;
    fault_t faults[MAX_FAULTS]; /* of calls that have no device */
    int64_t fault_count;
    gpu_t gpus[MAX_GPUS];
} state_t;

static state_t *state;
static int users;

/* ---- time and faults ---- */

static int64_t now_ns(void) {
    struct timespec now;
    if (state->is_virtual) return state->now_ns;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double now_s(void) { return (now_ns() - state->origin_ns) / 1e9; }

static void pass(double seconds) {
    if (state->is_virtual) {
        state->now_ns += (int64_t)(seconds * 1e9);
    } else {
        struct timespec pause = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
        nanosleep(&pause, NULL);
    }
}

static const fault_t *fault(const gpu_t *gpu, int kind, const char *call, double t_s) {
    const fault_t *faults = gpu ? gpu->faults : state->faults;
    int64_t count = gpu ? gpu->fault_count : state->fault_count;
    for (int64_t i = 0; i < count; i++) {
        const fault_t *f = &faults[i];
        if (f->kind == kind && f->start_s <= t_s && t_s < f->end_s && (!f->call[0] || !strcmp(f->call, call))) return f;
    }
    return NULL;
}

/* What every call does first: is NVML up, does the call take time, hang or fail? */
static int enter(const gpu_t *gpu, const char *call) {
    const fault_t *f;
    if (!users) return UNINITIALIZED;
    state->call_count++;
    pass(state->latency_ns / 1e9);
    if ((f = fault(gpu, HANG, call, now_s()))) pass(f->value);
    if ((f = fault(gpu, ERROR, call, now_s()))) return (int)f->value;
    return SUCCESS;
}

/* ---- waveform ---- */

static double part_j(const piece_t *p, double t_s) {
    return (p->start_w + (p->start_w + (p->end_w - p->start_w) * t_s / p->duration_s)) / 2 * t_s;
}

static double length_s(const gpu_t *g) {
    double sum = 0;
    for (int64_t i = 0; i < g->piece_count; i++) sum += g->pieces[i].duration_s;
    return sum;
}

static double until_j(const gpu_t *g, double t_s) {
    double length = length_s(g), laps = g->repeats ? floor(t_s / length) : 0, rest = t_s - laps * length, lap_j = 0;
    for (int64_t i = 0; i < g->piece_count; i++) lap_j += part_j(&g->pieces[i], g->pieces[i].duration_s);
    double energy = laps * lap_j;
    if (rest < 0) return energy + g->pieces[0].start_w * rest;
    for (int64_t i = 0; i < g->piece_count; i++) {
        const piece_t *p = &g->pieces[i];
        if (rest <= p->duration_s) return energy + part_j(p, rest);
        energy += part_j(p, p->duration_s);
        rest -= p->duration_s;
    }
    return energy + g->pieces[g->piece_count - 1].end_w * rest;
}

static double angle(const gpu_t *g, double t_s) { return 2 * M_PI * (t_s / g->swing_period_s + g->swing_phase); }

static double energy_j(const gpu_t *g, double start_s, double end_s) {
    double energy = until_j(g, end_s) - until_j(g, start_s);
    if (g->swing_w > 0)
        energy += g->swing_w * g->swing_period_s / (2 * M_PI) * (cos(angle(g, start_s)) - cos(angle(g, end_s)));
    return energy;
}

static double power_w(const gpu_t *g, double t_s) {
    double length = length_s(g), into = g->repeats ? t_s - floor(t_s / length) * length : t_s;
    double power = g->pieces[g->piece_count - 1].end_w;
    if (into < 0) into = 0;
    for (int64_t i = 0; i < g->piece_count; i++) {
        const piece_t *p = &g->pieces[i];
        if (into < p->duration_s) {
            power = p->start_w + (p->end_w - p->start_w) * into / p->duration_s;
            break;
        }
        into -= p->duration_s;
    }
    return power + (g->swing_w > 0 ? g->swing_w * sin(angle(g, t_s)) : 0);
}

/* ---- meters ---- */

static double shown_s(const gpu_t *g, const char *call, double refresh_s) {
    double t_s = now_s();
    const fault_t *f = fault(g, FROZEN, call, t_s);
    if (f) t_s = f->start_s;
    return refresh_s > 0 ? floor(t_s / refresh_s) * refresh_s : t_s;
}

static double mean_mw(const gpu_t *g, double t_s, double window_s) {
    return 1000 * (window_s > 0 ? energy_j(g, t_s - window_s, t_s) / window_s : power_w(g, t_s));
}

static uint64_t energy_mj(const gpu_t *g, const char *call) {
    const fault_t *f = fault(g, VALUE, call, now_s());
    if (f) return (uint64_t)f->value;
    double t_s = shown_s(g, call, g->counter_refresh_s);
    if ((f = fault(g, RESET, call, t_s))) return (uint64_t)floor(energy_j(g, f->start_s, t_s) * 1000);
    return g->first_mj + (uint64_t)floor(energy_j(g, 0, t_s) * 1000);
}

static unsigned power_mw(const gpu_t *g, const char *call, double window_s) {
    const fault_t *f = fault(g, VALUE, call, now_s());
    if (f) return (unsigned)f->value;
    return (unsigned)lround(mean_mw(g, shown_s(g, call, g->power_refresh_s), window_s));
}

static unsigned busy_percent(const gpu_t *g) {
    double ratio = mean_mw(g, now_s(), 1.0) / (g->limit_mw > 0 ? g->limit_mw : 400000);
    return (unsigned)(100 * (ratio > 1 ? 1 : ratio));
}

/* ---- handles: the number of the GPU plus 1; of a MIG slice, 256 times that plus its number ---- */

static const gpu_t *gpu_of(void *handle) {
    uintptr_t number = (uintptr_t)handle;
    uintptr_t index = (number > 255 ? number / 256 : number) - 1;
    return state && index < (uintptr_t)state->gpu_count ? &state->gpus[index] : NULL;
}

static int is_slice(void *handle) { return (uintptr_t)handle > 255; }

static int put(char *to, unsigned size, const char *text) {
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

#define SYSTEM()                              \
    int code_ = enter(NULL, __func__);        \
    if (code_) return code_
#define GPU_OR_SLICE(handle)                  \
    const gpu_t *gpu = gpu_of(handle);        \
    int code_ = enter(gpu, __func__);         \
    if (code_) return code_;                  \
    if (!gpu) return INVALID_ARGUMENT
#define GPU(handle)                           \
    GPU_OR_SLICE(handle);                     \
    if (is_slice(handle)) return NOT_SUPPORTED

/* ---- NVML ---- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!users) {
        const char *path = getenv("NVML_STUB_STATE");
        struct stat info;
        int file = path ? open(path, O_RDWR) : -1;
        if (state) munmap(state, sizeof(state_t));
        state = NULL;
        if (file < 0) return DRIVER_NOT_LOADED;
        if (!fstat(file, &info) && (size_t)info.st_size == sizeof(state_t))
            state = mmap(NULL, sizeof(state_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        if (!state || state == MAP_FAILED) return state = NULL, VERSION_MISMATCH;
        if (state->magic != MAGIC || state->size != sizeof(state_t)) return VERSION_MISMATCH;
    }
    users++;
    int code = enter(NULL, __func__);
    if (code) users--;
    return code;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    SYSTEM();
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 15: return "GPU is lost";
    case VERSION_MISMATCH: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) { SYSTEM(); return put(text, size, "550.00.00"); }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { SYSTEM(); return put(text, size, "12.550.00.00"); }
int nvmlSystemGetCudaDriverVersion(int *version) { SYSTEM(); return *version = 12040, SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { SYSTEM(); return *version = 12040, SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { SYSTEM(); return *count = (unsigned)state->gpu_count, SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(uintptr_t)(index + 1);
    GPU(*handle);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    SYSTEM();
    for (int64_t i = 0; i < state->gpu_count; i++)
        if (!strcmp(uuid, state->gpus[i].uuid)) return *handle = (void *)(uintptr_t)(i + 1), SUCCESS;
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    char uuid[128];
    GPU_OR_SLICE(handle);
    if (!is_slice(handle)) return put(text, size, gpu->uuid);
    snprintf(uuid, sizeof uuid, "MIG-%u-%s", (unsigned)((uintptr_t)handle % 256), gpu->uuid + strlen("GPU-"));
    return put(text, size, uuid);
}

int nvmlDeviceGetName(void *handle, char *text, unsigned size) { GPU_OR_SLICE(handle); return put(text, size, gpu->name); }

int nvmlDeviceGetIndex(void *handle, unsigned *index) {
    GPU(handle);
    return *index = (unsigned)((uintptr_t)handle - 1), SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *mj) {
    GPU(handle);
    return *mj = energy_mj(gpu, __func__), SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) {
    GPU(handle);
    return *mw = power_mw(gpu, __func__, gpu->power_window_s), SUCCESS;
}

static int limit(void *handle, unsigned *mw, const char *call) {
    const gpu_t *gpu = gpu_of(handle);
    int code = enter(gpu, call);
    if (code) return code;
    if (!gpu) return INVALID_ARGUMENT;
    if (is_slice(handle) || gpu->limit_mw <= 0) return NOT_SUPPORTED;
    return *mw = (unsigned)gpu->limit_mw, SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *mw) { return limit(handle, mw, __func__); }
int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *mw) { return limit(handle, mw, __func__); }
int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *mw) { return limit(handle, mw, __func__); }

typedef union { double d; unsigned ui; unsigned long long ull; } value_t;
typedef struct {
    uint32_t field, scope;
    int64_t timestamp_us, latency_us;
    unsigned type;
    int code;
    value_t value;
} field_t;

static int fill(const gpu_t *gpu, field_t *field) {
    const char *call = field->field == 83 ? "NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
                     : field->field == 185 ? "NVML_FI_DEV_POWER_AVERAGE"
                     : field->field == 186 ? "NVML_FI_DEV_POWER_INSTANT" : NULL;
    if (!call || field->scope >= SCOPES || gpu->scopes[field->scope] == 0) return NOT_SUPPORTED;
    const fault_t *f = fault(gpu, ERROR, call, now_s());
    if (f) return (int)f->value;
    if (field->field == 83) {
        field->type = 3;
        field->value.ull = energy_mj(gpu, call);
        return SUCCESS;
    }
    double window_s = field->field == 185 ? gpu->average_window_s : gpu->instant_window_s;
    field->type = 1;
    field->value.ui = (unsigned)lround(gpu->scopes[field->scope] * power_mw(gpu, call, window_s));
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *handle, int count, field_t *fields) {
    GPU(handle);
    for (int i = 0; i < count; i++) {
        fields[i].timestamp_us = (now_ns() + state->wall_offset_ns) / 1000;
        fields[i].code = fill(gpu, &fields[i]);
    }
    return SUCCESS;
}

typedef struct { unsigned long long timestamp_us; value_t value; } sample_t;

/* The driver's buffer: the last sample_count power readings, one each sample_period_s. */
int nvmlDeviceGetSamples(void *handle, int type, unsigned long long seen_us, unsigned *value_type, unsigned *count,
                         sample_t *samples) {
    GPU(handle);
    if (type != 0 || gpu->sample_count <= 0) return NOT_SUPPORTED;
    int64_t last = (int64_t)floor(shown_s(gpu, __func__, 0) / gpu->sample_period_s);
    unsigned found = 0, room = samples ? *count : (unsigned)gpu->sample_count;
    for (int64_t k = last - gpu->sample_count + 1; k <= last; k++) {
        double t_s = k * gpu->sample_period_s;
        long long stamp_us = (long long)((state->origin_ns + state->wall_offset_ns) / 1000 + t_s * 1e6);
        if (k < 0 || stamp_us <= (long long)seen_us) continue;
        if (found == room) return INSUFFICIENT_SIZE;
        if (samples) {
            samples[found].timestamp_us = (unsigned long long)stamp_us;
            const fault_t *f = fault(gpu, VALUE, __func__, t_s);
            samples[found].value.ui = f ? (unsigned)f->value : (unsigned)lround(mean_mw(gpu, t_s, gpu->instant_window_s));
        }
        found++;
    }
    *value_type = 1;
    *count = found;
    return found ? SUCCESS : NOT_FOUND;
}

typedef struct { unsigned gpu, memory; } utilization_t;

int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *rates) {
    GPU(handle);
    const fault_t *f = fault(gpu, VALUE, __func__, now_s());
    rates->gpu = f ? (unsigned)f->value : busy_percent(gpu);
    return rates->memory = rates->gpu / 2, SUCCESS;
}

/* The rest follows power in a simple way, so that a test can tell what it must be. */

static unsigned celsius(const gpu_t *gpu) { return 30 + (unsigned)(mean_mw(gpu, now_s(), 10) / 10000); }

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *value) {
    GPU(handle);
    return sensor ? INVALID_ARGUMENT : (*value = celsius(gpu), SUCCESS);
}

typedef struct { unsigned version; int sensor, value; } temperature_t;

int nvmlDeviceGetTemperatureV(void *handle, temperature_t *value) {
    GPU(handle);
    if (value->version != 0x100000C) return ARGUMENT_VERSION_MISMATCH;
    return value->value = (int)celsius(gpu), SUCCESS;
}

int nvmlDeviceGetFanSpeed(void *handle, unsigned *percent) { GPU(handle); return *percent = busy_percent(gpu), SUCCESS; }

int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz) {
    GPU(handle);
    if (type < 0 || type > 3) return INVALID_ARGUMENT;
    return *mhz = type == 2 ? 1593 : 210 + 12 * busy_percent(gpu), SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *mhz) {
    GPU(handle);
    return *mhz = type == 2 ? 1593 : 1410, SUCCESS;
}

/* Bit 0: idle. Bit 2: held down by the power limit. */
static int reasons(void *handle, unsigned long long *bits, const char *call) {
    const gpu_t *gpu = gpu_of(handle);
    int code = enter(gpu, call);
    if (code) return code;
    if (!gpu) return INVALID_ARGUMENT;
    if (is_slice(handle)) return NOT_SUPPORTED;
    unsigned percent = busy_percent(gpu);
    return *bits = percent == 0 ? 1 : percent >= 100 ? 4 : 0, SUCCESS;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, unsigned long long *bits) { return reasons(h, bits, __func__); }
int nvmlDeviceGetCurrentClocksEventReasons(void *h, unsigned long long *bits) { return reasons(h, bits, __func__); }

typedef struct { unsigned long long total, free, used; } memory_t;

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    GPU(handle);
    memory->total = 80ULL << 30;
    memory->used = 1ULL << 30;
    return memory->free = memory->total - memory->used, SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    GPU(handle);
    if (gpu->mig_mode < 0) return NOT_SUPPORTED;
    return *current = *pending = (unsigned)gpu->mig_mode, SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
    GPU(handle);
    return *count = gpu->mig_mode < 0 ? 0 : MAX_SLICES, SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice) {
    GPU(handle);
    if (gpu->mig_mode != 1 || index >= gpu->slice_count) return NOT_FOUND;
    return *slice = (void *)((uintptr_t)handle * 256 + index), SUCCESS;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *slice, void **handle) {
    GPU_OR_SLICE(slice);
    if (!is_slice(slice)) return INVALID_ARGUMENT;
    return *handle = (void *)((uintptr_t)slice / 256), SUCCESS;
}

int nvmlDeviceIsMigDeviceHandle(void *handle, unsigned *answer) {
    GPU_OR_SLICE(handle);
    return *answer = is_slice(handle), SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
    GPU_OR_SLICE(handle);
    return is_slice(handle) ? (*id = (unsigned)((uintptr_t)handle % 256) + 1, SUCCESS) : NOT_SUPPORTED;
}

typedef struct {
    unsigned multiprocessors, copies, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    unsigned long long memory_mb;
} attributes_t;

int nvmlDeviceGetAttributes_v2(void *handle, attributes_t *attributes) {
    GPU_OR_SLICE(handle);
    memset(attributes, 0, sizeof *attributes);
    unsigned slices = is_slice(handle) ? (unsigned)gpu->slices[(uintptr_t)handle % 256] : MAX_SLICES;
    attributes->gpu_slices = attributes->compute_slices = slices;
    attributes->multiprocessors = 14 * slices;
    return attributes->memory_mb = 10240ULL * slices, SUCCESS;
}
