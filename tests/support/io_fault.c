// A library for LD_PRELOAD that makes the nth write, fsync, rename or removal below a path go
// wrong.
//   DFMOA_IO_FAULT=OP:N:ACTION  OP = write | fsync | rename | remove;
//                               ACTION = kill (SIGKILL before the call), torn (half a write, then
//                               SIGKILL) or a number (the call fails with this errno, and every
//                               later one of its kind, as on a full disk)
//   DFMOA_IO_FAULT_PATH=TEXT    only paths that contain it
//   DFMOA_FSYNC_DELAY_MS=N      every fsync takes so much longer
//   DFMOA_IO_NO_FLAGS=1         renameat2 knows no flags, as on NFS
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { kPass, kTear, kFail };

static int matches(const char* path) {
  const char* part = getenv("DFMOA_IO_FAULT_PATH");
  return part == NULL || strstr(path, part) != NULL;
}

static int decide(const char* op, const char* path) {
  static int seen = 0;  // one operation per process is counted
  const char* fault = getenv("DFMOA_IO_FAULT");
  char wanted[16];
  char action[16];
  int nth = 0;
  if (fault == NULL || sscanf(fault, "%15[^:]:%d:%15s", wanted, &nth, action) != 3) return kPass;
  if (strcmp(op, wanted) != 0 || !matches(path)) return kPass;
  seen++;
  if (seen < nth) return kPass;
  if (strcmp(action, "kill") == 0) raise(SIGKILL);
  if (strcmp(action, "torn") == 0) return kTear;
  errno = atoi(action);
  return kFail;
}

static int decide_file(const char* op, int file) {
  char link[64];
  char path[4096];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof(path) - 1);
  if (length < 0) return kPass;
  path[length] = '\0';
  return decide(op, path);
}

#define REAL(result, name, ...)            \
  static result (*real)(__VA_ARGS__);      \
  if (real == NULL) {                      \
    void* symbol = dlsym(RTLD_NEXT, name); \
    memcpy(&real, &symbol, sizeof(real));  \
  }

ssize_t write(int file, const void* data, size_t bytes) {
  REAL(ssize_t, "write", int, const void*, size_t)
  const int verdict = decide_file("write", file);
  if (verdict == kFail) return -1;
  if (verdict == kTear) {
    real(file, data, bytes / 2);
    raise(SIGKILL);
  }
  return real(file, data, bytes);
}

ssize_t pwrite64(int file, const void* data, size_t bytes, off64_t offset) {
  REAL(ssize_t, "pwrite64", int, const void*, size_t, off64_t)
  const int verdict = decide_file("write", file);
  if (verdict == kFail) return -1;
  if (verdict == kTear) {
    real(file, data, bytes / 2, offset);
    raise(SIGKILL);
  }
  return real(file, data, bytes, offset);
}

ssize_t pwrite(int file, const void* data, size_t bytes, off_t offset) {
  return pwrite64(file, data, bytes, offset);
}

int fsync(int file) {
  REAL(int, "fsync", int)
  const char* delay = getenv("DFMOA_FSYNC_DELAY_MS");
  if (delay != NULL) usleep((useconds_t)atoi(delay) * 1000);
  return decide_file("fsync", file) == kFail ? -1 : real(file);
}

int rename(const char* from, const char* to) {
  REAL(int, "rename", const char*, const char*)
  return decide("rename", from) == kFail ? -1 : real(from, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  REAL(int, "renameat2", int, const char*, int, const char*, unsigned)
  if (flags != 0 && getenv("DFMOA_IO_NO_FLAGS") != NULL) {
    errno = EINVAL;
    return -1;
  }
  return decide("rename", from) == kFail ? -1 : real(from_folder, from, to_folder, to, flags);
}

int unlinkat(int folder, const char* path, int flags) {
  REAL(int, "unlinkat", int, const char*, int)
  const int verdict = path[0] == '/' ? decide("remove", path) : decide_file("remove", folder);
  return verdict == kFail ? -1 : real(folder, path, flags);
}

int remove(const char* path) {
  REAL(int, "remove", const char*)
  return decide("remove", path) == kFail ? -1 : real(path);
}
