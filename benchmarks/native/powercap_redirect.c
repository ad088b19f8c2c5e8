/* Shows a process (through LD_PRELOAD) another folder in place of /sys/class/powercap, and can make its reads fail.
 *
 * POWERCAP_ROOT names the folder. While the first byte of the file <root>/fails is '1', reading an energy counter
 * fails with EIO, as it does when a driver is unloaded. So every meter reads the same simulated counters by the path
 * that it has built in, and none has to be patched.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name, ...)                            \
    static type (*real)(__VA_ARGS__);                    \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

enum { MOST = 4096 };
static char is_counter[MOST]; /* by file descriptor */

/* The path to use: within the other folder, or as it is. */
static const char *at(const char *path, char *room) {
    static const char *const from[] = {"/sys/class/powercap", "/sys/devices/virtual/powercap"};
    const char *root = getenv("POWERCAP_ROOT");
    if (!root || !path) return path;
    for (unsigned i = 0; i < sizeof from / sizeof *from; i++) {
        size_t length = strlen(from[i]);
        if (strncmp(path, from[i], length) || (path[length] && path[length] != '/')) continue;
        snprintf(room, PATH_MAX, "%s%s", root, path + length);
        return room;
    }
    return path;
}

static int note(int file, const char *path) {
    size_t length = strlen(path);
    if (file >= 0 && file < MOST) is_counter[file] = length > 9 && !strcmp(path + length - 9, "energy_uj");
    return file;
}

static int fails(int file) {
    static const volatile char *flag;
    char room[PATH_MAX];
    if (file < 0 || file >= MOST || !is_counter[file]) return 0;
    if (!flag) {
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
        snprintf(room, sizeof room, "%s/fails", getenv("POWERCAP_ROOT"));
        int there = real(room, O_RDONLY);
        void *map = there < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, there, 0);
        if (there >= 0) close(there);
        flag = map == MAP_FAILED ? "0" : map;
    }
    return *flag == '1';
}

#define MODE                                     \
    mode_t mode = 0;                             \
    if (flags & (O_CREAT | O_TMPFILE)) {         \
        va_list rest;                            \
        va_start(rest, flags);                   \
        mode = va_arg(rest, mode_t);             \
        va_end(rest);                            \
    }
#define OPEN(name)                                                       \
    int name(const char *path, int flags, ...) {                         \
        char room[PATH_MAX];                                             \
        REAL(int, #name, const char *, int, ...);                        \
        MODE                                                             \
        return note(real(at(path, room), flags, mode), path);            \
    }
#define OPENAT(name)                                                     \
    int name(int folder, const char *path, int flags, ...) {             \
        char room[PATH_MAX];                                             \
        REAL(int, #name, int, const char *, int, ...);                   \
        MODE                                                             \
        return note(real(folder, at(path, room), flags, mode), path);    \
    }
#define STAT(name, what)                                                 \
    int name(const char *path, struct what *found) {                     \
        char room[PATH_MAX];                                             \
        REAL(int, #name, const char *, struct what *);                   \
        return real(at(path, room), found);                              \
    }
#define STATAT(name, what)                                               \
    int name(int folder, const char *path, struct what *found, int flags) { \
        char room[PATH_MAX];                                             \
        REAL(int, #name, int, const char *, struct what *, int);         \
        return real(folder, at(path, room), found, flags);               \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)

int access(const char *path, int mode) {
    char room[PATH_MAX];
    REAL(int, "access", const char *, int);
    return real(at(path, room), mode);
}

DIR *opendir(const char *path) {
    char room[PATH_MAX];
    REAL(DIR *, "opendir", const char *);
    return real(at(path, room));
}

ssize_t readlink(const char *path, char *text, size_t size) {
    char room[PATH_MAX];
    REAL(ssize_t, "readlink", const char *, char *, size_t);
    return real(at(path, room), text, size);
}

ssize_t read(int file, void *to, size_t size) {
    REAL(ssize_t, "read", int, void *, size_t);
    return fails(file) ? (errno = EIO, -1) : real(file, to, size);
}

ssize_t pread64(int file, void *to, size_t size, off64_t from) {
    REAL(ssize_t, "pread64", int, void *, size_t, off64_t);
    return fails(file) ? (errno = EIO, -1) : real(file, to, size, from);
}

ssize_t pread(int file, void *to, size_t size, off_t from) {
    REAL(ssize_t, "pread", int, void *, size_t, off_t);
    return fails(file) ? (errno = EIO, -1) : real(file, to, size, from);
}
