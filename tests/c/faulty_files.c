/* A faulty disk, preloaded into a program: reads, writes and flushes of regular files in one folder are cut short, interrupted,
 * or fail from the n-th one on.
 *
 * FAULT_UNDER  the folder
 * FAULT_CALL   read, write or fsync
 * FAULT_FROM   the first call that fails, from 1; 0 for none
 * FAULT_ERROR  the number of its error
 * FAULT_SHORT  1: every read and write does a part of what it is asked for, and every third one is interrupted
 * FAULT_LOG    a file that is made when a call failed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long calls, touched;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static int is_meant(int file) {
    char link[64], path[4096];
    struct stat about;
    const char *folder = setting("FAULT_UNDER");
    ssize_t length;
    if (*folder == '\0' || fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    length = readlink(link, path, sizeof path - 1);
    if (length <= 0) {
        return 0;
    }
    path[length] = '\0';
    return strncmp(path, folder, strlen(folder)) == 0;
}

/* Lets the test know that there was a fault. */
static void tell(void) {
    int log = open(setting("FAULT_LOG"), O_CREAT | O_WRONLY, 0666);
    if (log >= 0) {
        close(log);
    }
}

/* Whether this call is to fail; errno then says why. */
static int fails(const char *call, int file) {
    long from = atol(setting("FAULT_FROM"));
    if (from <= 0 || strcmp(call, setting("FAULT_CALL")) != 0 || !is_meant(file)) {
        return 0;
    }
    if (__atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) < from) {
        return 0;
    }
    tell();
    errno = atoi(setting("FAULT_ERROR"));
    return 1;
}

/* How much of a call is done; below 0 when it is interrupted. */
static ssize_t part(int file, size_t count) {
    if (*setting("FAULT_SHORT") == '\0' || count < 2 || !is_meant(file)) {
        return (ssize_t)count;
    }
    tell();
    if (__atomic_add_fetch(&touched, 1, __ATOMIC_SEQ_CST) % 3 == 0) {
        errno = EINTR;
        return -1;
    }
    return (ssize_t)(count / 2 + 1);
}

static void find(void *function, const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    memcpy(function, &found, sizeof found);
}

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*really)(int, const void *, size_t);
    ssize_t length;
    if (really == NULL) {
        find(&really, "write");
    }
    if (fails("write", file) || (length = part(file, count)) < 0) {
        return -1;
    }
    return really(file, bytes, (size_t)length);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    static ssize_t (*really)(int, const struct iovec *, int);
    if (really == NULL) {
        find(&really, "writev");
    }
    if (fails("write", file)) {
        return -1;
    }
    return really(file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t place) {
    static ssize_t (*really)(int, const void *, size_t, off64_t);
    ssize_t length;
    if (really == NULL) {
        find(&really, "pwrite64");
    }
    if (fails("write", file) || (length = part(file, count)) < 0) {
        return -1;
    }
    return really(file, bytes, (size_t)length, place);
}

ssize_t read(int file, void *bytes, size_t count) {
    static ssize_t (*really)(int, void *, size_t);
    ssize_t length;
    if (really == NULL) {
        find(&really, "read");
    }
    if (fails("read", file) || (length = part(file, count)) < 0) {
        return -1;
    }
    return really(file, bytes, (size_t)length);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t place) {
    static ssize_t (*really)(int, void *, size_t, off64_t);
    ssize_t length;
    if (really == NULL) {
        find(&really, "pread64");
    }
    if (fails("read", file) || (length = part(file, count)) < 0) {
        return -1;
    }
    return really(file, bytes, (size_t)length, place);
}

int fsync(int file) {
    static int (*really)(int);
    if (really == NULL) {
        find(&really, "fsync");
    }
    return fails("fsync", file) ? -1 : really(file);
}
