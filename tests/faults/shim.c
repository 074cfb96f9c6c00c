/* Stands between a program and the C library, and makes one system call below a directory fail.

   `faults_begin` says where, and which call: the nth of a kind, or all from that on. Calls elsewhere, and all others,
   are passed on. Calls are counted by kind until `faults_end`, so that a first time without a fault tells how many there
   are. What fails was not done at all; a short write or read has done half of what it was asked for, and says so. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* In the order of KINDS in faults.py. */
enum kind { OPEN, READ, WRITE, FLUSH, RENAME, REMOVE, MKDIR, LOCK, TRUNCATE, LINK, LIST, STAT, MODE, KINDS };

/* Instead of an error number. */
#define SHORT 0

static char below[PATH_MAX];
static size_t length;
static int wanted, nth, code, goes_on;
static atomic_int armed, hits;
static atomic_long counts[KINDS];

void faults_begin(const char *place, int kind, int number, int error, int from_then_on) {
    snprintf(below, sizeof below, "%s", place);
    length = strlen(below);
    wanted = kind, nth = number, code = error, goes_on = from_then_on;
    for (int each = 0; each < KINDS; each++)
        counts[each] = 0;
    hits = 0;
    armed = 1;
}

/* Returns how many calls failed. */
int faults_end(long *told) {
    armed = 0;
    for (int each = 0; each < KINDS; each++)
        told[each] = counts[each];
    return hits;
}

/* Lets all calls be, or goes on. Returns whether any could fail before. */
int faults_pause(int pausing) { return atomic_exchange(&armed, !pausing); }

static int is_below(const char *path) {
    return !strncmp(path, below, length) && (path[length] == '/' || path[length] == 0 || path[length] == ' ');
}

static int is_open_below(int fd) {
    char link[40], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = before;
    if (size < 0)
        return 0;
    path[size] = 0;
    return is_below(path);
}

static int hit(enum kind kind) {
    long number = ++counts[kind];
    if ((int)kind != wanted || (goes_on ? number < nth : number != nth))
        return 0;
    hits++;
    return 1;
}

/* Whether this call is the one. */
static int fails_at(enum kind kind, int fd) { return armed && is_open_below(fd) && hit(kind); }

static int fails_for(enum kind kind, int fd, const char *path) {
    if (!armed || !(path && path[0] == '/' ? is_below(path) : fd != AT_FDCWD && is_open_below(fd)))
        return 0;
    return hit(kind);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(result) do { errno = code; return result; } while (0)

#define MODE_OF(flags) \
    int mode = 0; \
    if ((flags) & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); }

#define DEFINE_OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); MODE_OF(flags) \
        if (fails_for(OPEN, AT_FDCWD, path)) FAIL(-1); \
        return real(path, flags, mode); \
    }
#define DEFINE_OPENAT(name) \
    int name(int fd, const char *path, int flags, ...) { \
        REAL(name); MODE_OF(flags) \
        if (fails_for(OPEN, fd, path)) FAIL(-1); \
        return real(fd, path, flags, mode); \
    }
DEFINE_OPEN(open) DEFINE_OPEN(open64) DEFINE_OPENAT(openat) DEFINE_OPENAT(openat64)

#define DEFINE_READ(name, kind, data) \
    ssize_t name(int fd, data bytes, size_t size) { \
        REAL(name); \
        if (fails_at(kind, fd)) { if (code != SHORT) FAIL(-1); size = size > 1 ? size / 2 : size; } \
        return real(fd, bytes, size); \
    }
#define DEFINE_PREAD(name, kind, data) \
    ssize_t name(int fd, data bytes, size_t size, off64_t at) { \
        REAL(name); \
        if (fails_at(kind, fd)) { if (code != SHORT) FAIL(-1); size = size > 1 ? size / 2 : size; } \
        return real(fd, bytes, size, at); \
    }
DEFINE_READ(read, READ, void *) DEFINE_PREAD(pread, READ, void *) DEFINE_PREAD(pread64, READ, void *)
DEFINE_READ(write, WRITE, const void *) DEFINE_PREAD(pwrite, WRITE, const void *) DEFINE_PREAD(pwrite64, WRITE, const void *)

/* Flushes that succeed are not done: no power goes here, and they would take most of the time. */
#define DEFINE_FLUSH(name) \
    int name(int fd) { \
        if (fails_at(FLUSH, fd)) FAIL(-1); \
        return 0; \
    }
DEFINE_FLUSH(fsync) DEFINE_FLUSH(fdatasync)

#define DEFINE(kind, place, name, parameters, ...) \
    int name parameters { REAL(name); if (fails_for(kind, place)) FAIL(-1); return real(__VA_ARGS__); }
#define AT(fd, path) fd, path
DEFINE(RENAME, AT(AT_FDCWD, old), rename, (const char *old, const char *new), old, new)
DEFINE(RENAME, AT(fd, old), renameat, (int fd, const char *old, int to, const char *new), fd, old, to, new)
DEFINE(RENAME, AT(fd, old), renameat2, (int fd, const char *old, int to, const char *new, unsigned flags),
       fd, old, to, new, flags)
DEFINE(REMOVE, AT(AT_FDCWD, path), unlink, (const char *path), path)
DEFINE(REMOVE, AT(fd, path), unlinkat, (int fd, const char *path, int flags), fd, path, flags)
DEFINE(REMOVE, AT(AT_FDCWD, path), rmdir, (const char *path), path)
DEFINE(MKDIR, AT(AT_FDCWD, path), mkdir, (const char *path, mode_t mode), path, mode)
DEFINE(MKDIR, AT(fd, path), mkdirat, (int fd, const char *path, mode_t mode), fd, path, mode)
DEFINE(LINK, AT(to, new), linkat, (int fd, const char *old, int to, const char *new, int flags), fd, old, to, new, flags)
DEFINE(STAT, AT(AT_FDCWD, path), stat, (const char *path, struct stat *found), path, found)
DEFINE(STAT, AT(AT_FDCWD, path), stat64, (const char *path, struct stat64 *found), path, found)
DEFINE(STAT, AT(AT_FDCWD, path), lstat, (const char *path, struct stat *found), path, found)
DEFINE(STAT, AT(AT_FDCWD, path), lstat64, (const char *path, struct stat64 *found), path, found)
DEFINE(STAT, AT(fd, path), fstatat, (int fd, const char *path, struct stat *found, int flags), fd, path, found, flags)
DEFINE(STAT, AT(fd, path), fstatat64, (int fd, const char *path, struct stat64 *found, int flags), fd, path, found, flags)
DEFINE(MODE, AT(AT_FDCWD, path), chmod, (const char *path, mode_t mode), path, mode)

#define DEFINE_AT(kind, name, parameters, ...) \
    int name parameters { REAL(name); if (fails_at(kind, fd)) FAIL(-1); return real(__VA_ARGS__); }
DEFINE_AT(STAT, fstat, (int fd, struct stat *found), fd, found)
DEFINE_AT(STAT, fstat64, (int fd, struct stat64 *found), fd, found)
DEFINE_AT(TRUNCATE, ftruncate, (int fd, off_t size), fd, size)
DEFINE_AT(TRUNCATE, ftruncate64, (int fd, off64_t size), fd, size)
DEFINE_AT(MODE, fchmod, (int fd, mode_t mode), fd, mode)
DEFINE_AT(MODE, fchown, (int fd, uid_t owner, gid_t group), fd, owner, group)

/* Unlocking cannot fail: flock(2) knows no error that fits. */
int flock(int fd, int operation) {
    REAL(flock);
    if (!(operation & LOCK_UN) && fails_at(LOCK, fd)) FAIL(-1);
    return real(fd, operation);
}

#define DEFINE_FCNTL(name) \
    int name(int fd, int command, ...) { \
        REAL(name); \
        va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest); \
        if (fails_at(LOCK, fd)) FAIL(-1); \
        return real(fd, command, argument); \
    }
DEFINE_FCNTL(fcntl) DEFINE_FCNTL(fcntl64)

DIR *fdopendir(int fd) { REAL(fdopendir); if (fails_at(LIST, fd)) FAIL(NULL); return real(fd); }
DIR *opendir(const char *path) { REAL(opendir); if (fails_for(LIST, AT_FDCWD, path)) FAIL(NULL); return real(path); }
struct dirent *readdir(DIR *open) { REAL(readdir); if (fails_at(LIST, dirfd(open))) FAIL(NULL); return real(open); }
struct dirent64 *readdir64(DIR *open) { REAL(readdir64); if (fails_at(LIST, dirfd(open))) FAIL(NULL); return real(open); }
