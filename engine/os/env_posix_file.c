/*
 * Files of the real environment: positioned I/O, sync, allocation, mapping
 * and open-file-description locks.
 */
#include "engine/os/env_posix.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/util/alloc.h"

/* Single pages stay single folios (store.h, LOGS). */
#define POSIX_ZEROS_SIZE 4096

static skv_posix_file *posix_file(skv_file *file) {
  return (skv_posix_file *)file;
}

static int posix_file_error(skv_posix_file *file, const char *operation,
                            skv_err *err) {
  return skv_posix_error(err, operation, file->name, errno);
}

/* ---- Opening ----------------------------------------------------------- */

static int posix_open_flags(int flags) {
  /* O_NONBLOCK: opening a FIFO must not wait for its other end; regular
   * files do not know it. */
  int f = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  f |= flags & SKV_FILE_WRITE ? O_RDWR : O_RDONLY;
  if (flags & SKV_FILE_CREATE) f |= O_CREAT;
  if (flags & SKV_FILE_EXCLUSIVE) f |= O_EXCL;
  return f;
}

static int posix_not_regular(skv_err *err, const char *name) {
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "%s is not a regular file", name);
}

/* A new file is for the user and the group whom the directory is for, and for
 * nobody else: 0755 is a habit and not a wish to publish. */
static mode_t posix_mode_in(const struct stat *dir) {
  return 0600 | (dir->st_mode & 0060);
}

/* It has that mode whatever the umask, and the directory's group; from the
 * superuser also its owner, who could not open it otherwise. What is not ours
 * to do, as in a user namespace, is left; group bits are not for another
 * group. */
static void posix_share(int fd, const struct stat *dir) {
  struct stat st;
  if (fstat(fd, &st) != 0) return;
  mode_t mode = posix_mode_in(dir);
  bool is_root = geteuid() == 0;
  if (st.st_gid != dir->st_gid || (is_root && st.st_uid != dir->st_uid)) {
    uid_t owner = is_root ? dir->st_uid : (uid_t)-1;
    int failed = fchown(fd, owner, dir->st_gid);
    if (failed) mode = 0600;
  }
  if ((st.st_mode & 0777) != mode) {
    int failed = fchmod(fd, mode);
    SKV_UNUSED(failed);
  }
}

/* Only what is made here is shared: a name that is there may be a link to
 * anything. */
static int posix_open_file(int dir_fd, const char *name, int flags) {
  struct stat dir;
  if (!(flags & O_CREAT)) return skv_posix_openat(dir_fd, name, flags, 0);
  if (fstat(dir_fd, &dir) != 0) return -1;
  for (;;) {
    mode_t mode = posix_mode_in(&dir); /* at once: the group may be waiting */
    int fd = skv_posix_openat(dir_fd, name, flags | O_EXCL, mode);
    if (fd >= 0) {
      posix_share(fd, &dir);
      return fd;
    }
    if (errno != EEXIST || (flags & O_EXCL)) return -1;
    fd = skv_posix_openat(dir_fd, name, flags & ~O_CREAT, 0);
    if (fd >= 0 || errno != ENOENT) return fd;
  }
}

/* A descriptor of the regular file `name`. */
static int posix_open_regular(int dir_fd, const char *name, int flags,
                              skv_err *err, int *out) {
  int fd = posix_open_file(dir_fd, name, posix_open_flags(flags));
  if (fd < 0) {
    bool is_other = errno == ELOOP || errno == EISDIR || errno == ENXIO;
    if (is_other) return posix_not_regular(err, name);
    return skv_posix_error(err, "open", name, errno);
  }
  struct stat st;
  if (fstat(fd, &st) != 0) {
    int rc = skv_posix_error(err, "open", name, errno);
    close(fd);
    return rc;
  }
  if (!S_ISREG(st.st_mode)) {
    close(fd);
    return posix_not_regular(err, name);
  }
  *out = fd;
  return STRATAKV_OK;
}

int skv_posix_file_open(skv_dir *dir, const char *name, int flags, skv_err *err,
                        skv_file **out) {
  *out = NULL;
  skv_posix_file *file = skv_malloc(sizeof *file);
  if (file == NULL) return skv_error_nomem(err);
  file->base.env = dir->env;
  snprintf(file->name, sizeof file->name, "%s", name);
  int dir_fd = ((skv_posix_dir *)dir)->fd;
  int rc = posix_open_regular(dir_fd, name, flags, err, &file->fd);
  if (rc != STRATAKV_OK) {
    skv_free(file);
    return rc;
  }
  *out = &file->base;
  return STRATAKV_OK;
}

void skv_posix_file_close(skv_file *base) {
  if (base == NULL) return;
  skv_posix_file *file = posix_file(base);
  if (file->fd >= 0) close(file->fd);
  skv_free(file);
}

void skv_posix_file_abandon(skv_file *base) {
  if (base->env != skv_env_posix()) return;
  skv_posix_file *file = posix_file(base);
  if (file->fd >= 0) close(file->fd);
  file->fd = -1;
}

int skv_posix_file_size(skv_file *base, skv_err *err, uint64_t *size) {
  skv_posix_file *file = posix_file(base);
  struct stat st;
  *size = 0;
  if (fstat(file->fd, &st) != 0) {
    return posix_file_error(file, "get the size of", err);
  }
  *size = (uint64_t)st.st_size;
  return STRATAKV_OK;
}

bool skv_posix_file_is_named(skv_file *base) {
  struct stat st;
  return fstat(posix_file(base)->fd, &st) != 0 || st.st_nlink > 0;
}

/* ---- Reading and writing ----------------------------------------------- */

int skv_posix_file_read(skv_file *base, uint64_t offset, void *data,
                        size_t size, skv_err *err, size_t *got) {
  skv_posix_file *file = posix_file(base);
  uint8_t *p = data;
  *got = 0;
  while (*got < size) {
    ssize_t n = pread(file->fd, p + *got, size - *got, (off_t)(offset + *got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return posix_file_error(file, "read", err);
    if (n == 0) break;
    *got += (size_t)n;
  }
  return STRATAKV_OK;
}

/* No space for `size` bytes: say how much there is, it is the user's turn. */
static int posix_full(skv_posix_file *file, uint64_t size, skv_err *err) {
  int number = errno;
  struct statvfs fs;
  if (number != ENOSPC || fstatvfs(file->fd, &fs) != 0) {
    errno = number;
    return posix_file_error(file, "write", err);
  }
  uint64_t available = (uint64_t)fs.f_bavail * fs.f_frsize;
  return SKV_ERROR(err, STRATAKV_FULL,
                   "disk full writing %s, %" PRIu64 " KiB needed, %" PRIu64
                   " KiB free",
                   file->name, (size + 1023) / 1024, available / 1024);
}

/* Growing a file beyond RLIMIT_FSIZE raises SIGXFSZ, which ends the host; a
 * library may not ignore a signal for it, so it asks before. */
static bool posix_may_reach(uint64_t end) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      end <= limit.rlim_cur)
    return true;
  errno = EFBIG;
  return false;
}

int skv_posix_file_write(skv_file *base, uint64_t offset, const void *data,
                         size_t size, skv_err *err) {
  skv_posix_file *file = posix_file(base);
  const uint8_t *p = data;
  if (!posix_may_reach(offset + size)) return posix_full(file, size, err);
  while (size > 0) {
    ssize_t n = pwrite(file->fd, p, size, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENOSPC; /* nothing was said: it would go on for ever */
    if (n <= 0) return posix_full(file, size, err);
    p += n;
    offset += (uint64_t)n;
    size -= (size_t)n;
  }
  return STRATAKV_OK;
}

int skv_posix_file_sync(skv_file *base, skv_err *err) {
  skv_posix_file *file = posix_file(base);
  int failed;
  do {
    failed = fdatasync(file->fd);
  } while (failed && errno == EINTR);
  if (!failed) return STRATAKV_OK;
  char text[128];
  return SKV_ERROR(err, STRATAKV_IOERR_FSYNC, "cannot sync %s: %s", file->name,
                   strerror_r(errno, text, sizeof text));
}

void skv_posix_file_sync_start(skv_file *base, uint64_t offset, uint64_t size) {
  sync_file_range(posix_file(base)->fd, (off_t)offset, (off_t)size,
                  SYNC_FILE_RANGE_WRITE);
}

/* ---- Size -------------------------------------------------------------- */

/* Extend the file to `size` with written zeros, where the file system cannot
 * allocate. Bytes below its size are not touched. */
static int posix_write_zeros(skv_posix_file *file, uint64_t size,
                             skv_err *err) {
  static const uint8_t zeros[POSIX_ZEROS_SIZE];
  uint64_t at;
  int rc = skv_posix_file_size(&file->base, err, &at);
  while (rc == STRATAKV_OK && at < size) {
    uint64_t n = POSIX_ZEROS_SIZE - at % POSIX_ZEROS_SIZE;
    if (n > size - at) n = size - at;
    rc = skv_posix_file_write(&file->base, at, zeros, (size_t)n, err);
    at += n;
  }
  return rc;
}

static int posix_fallocate_retry(int fd, int mode, uint64_t size) {
  int failed;
  do {
    failed = fallocate(fd, mode, 0, (off_t)size);
  } while (failed && errno == EINTR);
  return failed;
}

int skv_posix_file_allocate(skv_file *base, uint64_t size, skv_err *err) {
  skv_posix_file *file = posix_file(base);
  if (size == 0) return STRATAKV_OK;
  if (!posix_may_reach(size)) return posix_full(file, size, err);
  /* Unshared too, where files can share blocks: XFS after a reflink copy. */
  int failed = posix_fallocate_retry(file->fd, FALLOC_FL_UNSHARE_RANGE, size);
  if (failed && (errno == EOPNOTSUPP || errno == EINVAL))
    failed = posix_fallocate_retry(file->fd, 0, size);
  if (!failed) return STRATAKV_OK;
  if (errno == EOPNOTSUPP || errno == ENOSYS) {
    return posix_write_zeros(file, size, err);
  }
  return posix_full(file, size, err);
}

int skv_posix_file_truncate(skv_file *base, uint64_t size, skv_err *err) {
  skv_posix_file *file = posix_file(base);
  if (!posix_may_reach(size)) return posix_full(file, size, err);
  int failed;
  do {
    failed = ftruncate(file->fd, (off_t)size);
  } while (failed && errno == EINTR);
  if (failed) return posix_file_error(file, "truncate", err);
  return STRATAKV_OK;
}

void skv_posix_file_advise(skv_file *base, uint64_t offset, uint64_t size,
                           int advice) {
  int posix_advice = advice == SKV_ADVISE_RANDOM     ? POSIX_FADV_RANDOM
                     : advice == SKV_ADVISE_WILLNEED ? POSIX_FADV_WILLNEED
                                                     : POSIX_FADV_DONTNEED;
  posix_fadvise(posix_file(base)->fd, (off_t)offset, (off_t)size, posix_advice);
}

/* ---- Mapping ----------------------------------------------------------- */

int skv_posix_file_map(skv_file *base, size_t size, bool write, bool random,
                       skv_err *err, void **out) {
  skv_posix_file *file = posix_file(base);
  int protection = write ? PROT_READ | PROT_WRITE : PROT_READ;
  void *p = mmap(NULL, size, protection, MAP_SHARED, file->fd, 0);
  if (p == MAP_FAILED) {
    *out = NULL;
    return posix_file_error(file, "map", err);
  }
  if (random) madvise(p, size, MADV_RANDOM);
  *out = p;
  return STRATAKV_OK;
}

void skv_posix_unmap(skv_env *env, void *map, size_t size) {
  SKV_UNUSED(env);
  if (map != NULL) munmap(map, size);
}

/* ---- Locks ------------------------------------------------------------- */

static short posix_lock_type(int mode) {
  return mode == SKV_EXCLUSIVE ? F_WRLCK
         : mode == SKV_SHARED  ? F_RDLCK
                               : F_UNLCK;
}

/* l_pid must be 0 for open-file-description locks. */
int skv_posix_file_lock(skv_file *base, uint64_t offset, uint64_t size,
                        int mode, skv_err *err) {
  skv_posix_file *file = posix_file(base);
  assert(size > 0);
  struct flock lock = {0};
  lock.l_type = posix_lock_type(mode);
  lock.l_whence = SEEK_SET;
  lock.l_start = (off_t)offset;
  lock.l_len = (off_t)size;
  int failed;
  do {
    failed = fcntl(file->fd, F_OFD_SETLK, &lock);
  } while (failed && errno == EINTR);
  if (!failed) return STRATAKV_OK;
  if (errno == EAGAIN || errno == EACCES) {
    return SKV_ERROR(err, STRATAKV_BUSY, "%s is locked by another process",
                     file->name);
  }
  return posix_file_error(file, "lock", err);
}
