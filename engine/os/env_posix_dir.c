/*
 * Directories of the real environment, and what is known about the file
 * system that holds them.
 */
#include "engine/os/env_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/util/alloc.h"
#include "engine/util/buf.h"

#define POSIX_DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#define POSIX_OPENAT2_RETRIES 10 /* EAGAIN: something was renamed meanwhile */

static skv_posix_dir *posix_dir(skv_dir *dir) { return (skv_posix_dir *)dir; }

/* ---- Opening: the walk beneath a base ---------------------------------- */

/* Open one component; a symlink is ELOOP (O_DIRECTORY says ENOTDIR). */
static int posix_walk_step(int at, const char *name) {
  int fd = skv_posix_openat(at, name, POSIX_DIR_FLAGS | O_NOFOLLOW, 0);
  if (fd >= 0 || errno != ENOTDIR) return fd;
  struct stat st;
  bool is_link =
      fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
  errno = is_link ? ELOOP : ENOTDIR;
  return -1;
}

/* Copy the component at *path, move *path behind it and its slashes. */
static int posix_walk_next(const char **path, char name[NAME_MAX + 1]) {
  size_t n = strcspn(*path, "/");
  if (n > NAME_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(name, *path, n);
  name[n] = '\0';
  *path += n;
  *path += strspn(*path, "/");
  if (strcmp(name, "..") == 0) {
    errno = EXDEV;
    return -1;
  }
  return 0;
}

int skv_posix_open_walk(int at, const char *path) {
  char name[NAME_MAX + 1];
  if (path[0] == '/') {
    errno = EXDEV;
    return -1;
  }
  int fd = skv_posix_openat(at, ".", POSIX_DIR_FLAGS, 0);
  while (fd >= 0 && *path != '\0') {
    int next = -1;
    if (posix_walk_next(&path, name) == 0) next = posix_walk_step(fd, name);
    int number = errno;
    close(fd);
    errno = number;
    fd = next;
  }
  return fd;
}

/* A low descriptor is moved up as skv_posix_openat does. */
static int posix_openat2(int at, const char *path) {
  struct open_how how = {
      .flags = POSIX_DIR_FLAGS,
      .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
  };
  int fd = -1;
  for (int i = 0; i < POSIX_OPENAT2_RETRIES; i++) {
    fd = (int)syscall(SYS_openat2, at, path, &how, sizeof how);
    if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) break;
  }
  if (fd < 0 || fd > 2) return fd;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  close(fd);
  return high;
}

/* EPERM as well: some sandboxes answer so to system calls they do not know. */
static int posix_open_beneath(int at, const char *path) {
  int fd = posix_openat2(at, path);
  if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
    fd = skv_posix_open_walk(at, path);
  }
  return fd;
}

static int posix_open_path(int at, const char *path, int flags) {
  if (flags & SKV_DIR_BENEATH) return posix_open_beneath(at, path);
  return skv_posix_openat(at, path, POSIX_DIR_FLAGS, 0);
}

/* ---- Opening ----------------------------------------------------------- */

/* The directory above path, which has no final slash, opened under the same
 * rules; *last is what it is called there. -1 and errno. */
static int posix_open_parent(int at, const char *path, int flags,
                             const char **last) {
  char parent[4096];
  const char *slash = strrchr(path, '/');
  *last = slash == NULL ? path : slash + 1;
  if (slash == NULL) return skv_posix_openat(at, ".", O_PATH | O_DIRECTORY, 0);
  size_t n = (size_t)(slash - path);
  if (n >= sizeof parent) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy(parent, path, n);
  parent[n] = '\0';
  return posix_open_path(at, n ? parent : "/", flags);
}

/* Make the last component of path. 0, or -1 and errno. */
static int posix_make_last(int at, const char *path, int flags) {
  const char *last;
  int parent = posix_open_parent(at, path, flags, &last);
  if (parent < 0) return -1;
  int failed = mkdirat(parent, last, 0700);
  int number = errno;
  close(parent);
  errno = number;
  return failed;
}

/* Make it and open it, or leave nothing. */
static int posix_make_and_open(int at, const char *path, int flags) {
  const char *last;
  int parent = posix_open_parent(at, path, flags, &last);
  if (parent < 0) return -1;
  int fd = -1;
  bool made = mkdirat(parent, last, 0700) == 0;
  if (made)
    fd = skv_posix_openat(parent, last, POSIX_DIR_FLAGS | O_NOFOLLOW, 0);
  int number = errno;
  if (made && fd < 0) unlinkat(parent, last, AT_REMOVEDIR);
  close(parent);
  errno = number;
  return fd;
}

/* Open, or make and open, without a message. */
static int posix_open_or_make(int at, const char *path, int flags) {
  if (flags & SKV_DIR_EXCLUSIVE) return posix_make_and_open(at, path, flags);
  int fd = posix_open_path(at, path, flags);
  if (fd >= 0 || errno != ENOENT || !(flags & SKV_DIR_CREATE)) return fd;
  if (posix_make_last(at, path, flags) != 0 && errno != EEXIST) return -1;
  return posix_open_path(at, path, flags);
}

static int posix_dir_error(skv_err *err, const char *base, const char *path,
                           const char *full, int flags, int number) {
  bool is_refused = number == EXDEV || number == ELOOP;
  if (is_refused && (flags & SKV_DIR_BENEATH)) {
    return SKV_ERROR(err, STRATAKV_AUTH,
                     "\"%s\" leaves \"%s\" or meets a symlink; use an "
                     "absolute path",
                     path, base);
  }
  if (number == ENOENT && (flags & SKV_DIR_CREATE)) {
    return SKV_ERROR(err, STRATAKV_CANTOPEN,
                     "cannot create \"%s\": the directory above is missing",
                     full);
  }
  if (number == ENOENT) {
    return SKV_ERROR(err, STRATAKV_CANTOPEN, "no store at \"%s\"", full);
  }
  if (number == ENOTDIR) {
    return SKV_ERROR(err, STRATAKV_CANTOPEN, "\"%s\" is not a directory", full);
  }
  return skv_posix_error(err, "open", full, number);
}

/* base and path joined, slashes at the end removed; NULL without memory. */
static char *posix_join(const char *base, const char *path) {
  skv_buf text = {0};
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  if (path[0] != '/' && strcmp(base, ".") != 0) {
    skv_buf_append(&text, base, strlen(base));
    skv_buf_append(&text, "/", 1);
  }
  skv_buf_append(&text, path, n);
  skv_buf_u8(&text, 0);
  if (text.rc == STRATAKV_OK) return (char *)text.data;
  skv_buf_clear(&text);
  return NULL;
}

/* The descriptor of dir->path, or the error. */
static int posix_dir_open_fd(skv_posix_dir *dir, const char *base,
                             const char *path, int flags, skv_err *err) {
  int at = AT_FDCWD;
  char *trimmed = posix_join(".", path);
  if (trimmed == NULL) return skv_error_nomem(err);
  int rc = STRATAKV_OK;
  if (path[0] != '/' || (flags & SKV_DIR_BENEATH)) {
    at = skv_posix_openat(AT_FDCWD, base, O_PATH | O_DIRECTORY, 0);
    if (at < 0) {
      rc = posix_dir_error(err, base, path, dir->path, 0, errno);
      goto out;
    }
  }
  dir->fd = posix_open_or_make(at, trimmed, flags);
  if (dir->fd < 0) {
    rc = posix_dir_error(err, base, path, dir->path, flags, errno);
  }

out:
  if (at >= 0) close(at);
  skv_free(trimmed);
  return rc;
}

int skv_posix_dir_open(skv_env *env, const char *base, const char *path,
                       int flags, skv_err *err, skv_dir **out) {
  *out = NULL;
  int rc = STRATAKV_OK;
  if (base == NULL) base = ".";
  skv_posix_dir *dir = skv_new(sizeof *dir, &rc);
  if (dir == NULL) return skv_error_nomem(err);
  dir->base.env = env;
  dir->fd = -1;
  dir->path = posix_join(base, path);
  if (dir->path == NULL) {
    rc = skv_error_nomem(err);
  } else {
    rc = posix_dir_open_fd(dir, base, path, flags, err);
  }
  if (rc != STRATAKV_OK) {
    skv_posix_dir_close(&dir->base);
    return rc;
  }
  *out = &dir->base;
  return STRATAKV_OK;
}

void skv_posix_dir_close(skv_dir *base) {
  if (base == NULL) return;
  skv_posix_dir *dir = posix_dir(base);
  if (dir->fd >= 0) close(dir->fd);
  skv_free(dir->path);
  skv_free(dir);
}

/* ---- The file system --------------------------------------------------- */

#define POSIX_LUSTRE_MAGIC 0x0BD00BD0u
#define POSIX_GFS2_MAGIC 0x01161970u
#define POSIX_AFS_FS_MAGIC 0x6B414653u
#define POSIX_CIFS_MAGIC 0xFF534D42u
#define POSIX_SMB2_MAGIC 0xFE534D42u
#define POSIX_CEPH_MAGIC 0x00C36400u
#define POSIX_XFS_MAGIC 0x58465342u

/* Where overwriting an allocated block allocates nothing. ext2, ext3 and ext4
 * share one number. What is not known here copies on write, or may. */
static bool posix_can_overwrite(uint32_t magic) {
  return magic == EXT4_SUPER_MAGIC || magic == POSIX_XFS_MAGIC ||
         magic == TMPFS_MAGIC;
}

/* File systems whose page cache or locks another machine does not see. */
static bool posix_is_network(uint32_t magic) {
  static const uint32_t network[] = {
      NFS_SUPER_MAGIC,    SMB_SUPER_MAGIC,   POSIX_CIFS_MAGIC,
      POSIX_SMB2_MAGIC,   V9FS_MAGIC,        POSIX_CEPH_MAGIC,
      POSIX_LUSTRE_MAGIC, AFS_SUPER_MAGIC,   POSIX_AFS_FS_MAGIC,
      CODA_SUPER_MAGIC,   OCFS2_SUPER_MAGIC, POSIX_GFS2_MAGIC,
  };
  for (size_t i = 0; i < sizeof network / sizeof network[0]; i++) {
    if (network[i] == magic) return true;
  }
  return false;
}

/* The canonical path: from the kernel, else by resolving the one given. */
static int posix_canonical(skv_posix_dir *dir, skv_err *err, char path[4096]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", dir->fd);
  ssize_t n = readlink(link, path, 4096);
  if (n > 0 && n < 4096 && path[0] == '/') {
    path[n] = '\0';
    return STRATAKV_OK;
  }
  if (n < 4096 && realpath(dir->path, path) != NULL) return STRATAKV_OK;
  return SKV_ERROR(err, STRATAKV_CANTOPEN, "no canonical path for \"%s\"",
                   dir->path);
}

int skv_posix_dir_info(skv_dir *base, skv_err *err, skv_dir_info *out) {
  skv_posix_dir *dir = posix_dir(base);
  struct stat st;
  struct statfs fs;
  memset(out, 0, sizeof *out);
  int failed;
  do {
    failed = fstat(dir->fd, &st) != 0 || fstatfs(dir->fd, &fs) != 0;
  } while (failed && errno == EINTR);
  if (failed) {
    return skv_posix_error(err, "examine", dir->path, errno);
  }
  out->device = (uint64_t)st.st_dev;
  out->inode = (uint64_t)st.st_ino;
  out->owner = (uint32_t)st.st_uid;
  out->euid = (uint32_t)geteuid();
  out->mode = (uint32_t)(st.st_mode & 07777);
  out->can_overwrite = posix_can_overwrite((uint32_t)fs.f_type);
  out->fs_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
  out->is_read_only = (fs.f_flags & ST_RDONLY) != 0;
  out->is_network = posix_is_network((uint32_t)fs.f_type);
  return posix_canonical(dir, err, out->path);
}

int skv_posix_find_path(skv_env *env, const char *path, skv_err *err,
                        char out[4096]) {
  SKV_UNUSED(env);
  if (realpath(path, out) != NULL) return STRATAKV_OK; /* PATH_MAX is 4096 */
  return SKV_ERROR(err, STRATAKV_NOTFOUND, "no canonical path for \"%s\"",
                   path);
}

int skv_posix_dir_free(skv_dir *base, skv_err *err, uint64_t *bytes) {
  skv_posix_dir *dir = posix_dir(base);
  struct statvfs fs;
  *bytes = 0;
  int failed;
  do {
    failed = fstatvfs(dir->fd, &fs);
  } while (failed && errno == EINTR);
  if (failed) {
    return skv_posix_error(err, "examine", dir->path, errno);
  }
  *bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
  return STRATAKV_OK;
}

/* ---- Entries ----------------------------------------------------------- */

/* Call `each` for the entries of an open stream. */
static int posix_list_stream(DIR *stream, const char *path,
                             int (*each)(void *arg, const char *name),
                             void *arg, skv_err *err) {
  for (;;) {
    errno = 0;
    struct dirent *entry = readdir(stream);
    if (entry == NULL) {
      if (errno == 0) return STRATAKV_OK;
      return skv_posix_error(err, "list", path, errno);
    }
    const char *name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    int rc = each(arg, name);
    if (rc != STRATAKV_OK) return rc;
  }
}

/* A descriptor of its own: the stream's position is not shared. */
int skv_posix_dir_list(skv_dir *base, int (*each)(void *arg, const char *name),
                       void *arg, skv_err *err) {
  skv_posix_dir *dir = posix_dir(base);
  int fd = skv_posix_openat(dir->fd, ".", POSIX_DIR_FLAGS, 0);
  if (fd < 0) return skv_posix_error(err, "list", dir->path, errno);
  DIR *stream = fdopendir(fd);
  if (stream == NULL) {
    int rc = skv_posix_error(err, "list", dir->path, errno);
    close(fd);
    return rc;
  }
  int rc = posix_list_stream(stream, dir->path, each, arg, err);
  closedir(stream);
  return rc;
}

/* EINVAL: a file system that syncs directories by itself. */
static int posix_sync_fd(int fd, const char *name, skv_err *err) {
  int failed;
  do {
    failed = fsync(fd);
  } while (failed && errno == EINTR);
  if (!failed || errno == EINVAL) return STRATAKV_OK;
  char text[128];
  return SKV_ERROR(err, STRATAKV_IOERR_FSYNC, "cannot sync directory %s: %s",
                   name, strerror_r(errno, text, sizeof text));
}

int skv_posix_dir_sync(skv_dir *base, skv_err *err) {
  skv_posix_dir *dir = posix_dir(base);
  return posix_sync_fd(dir->fd, dir->path, err);
}

/* A parent that may not be read cannot be opened for its fsync; syncfs of
 * the whole file system says the same and more. */
int skv_posix_dir_sync_parent(skv_dir *base, skv_err *err) {
  skv_posix_dir *dir = posix_dir(base);
  int fd = skv_posix_openat(dir->fd, "..", POSIX_DIR_FLAGS, 0);
  if (fd < 0 && (errno == EACCES || errno == EPERM)) {
    if (syncfs(dir->fd) == 0) return STRATAKV_OK;
  }
  if (fd < 0) {
    return skv_posix_error(err, "sync the parent of", dir->path, errno);
  }
  int rc = posix_sync_fd(fd, dir->path, err);
  close(fd);
  return rc;
}

int skv_posix_dir_rename(skv_dir *base, const char *from, const char *to,
                         skv_err *err) {
  int fd = posix_dir(base)->fd;
  if (renameat(fd, from, fd, to) == 0) return STRATAKV_OK;
  return skv_posix_error(err, "rename", from, errno);
}

int skv_posix_dir_unlink(skv_dir *base, const char *name, skv_err *err) {
  if (unlinkat(posix_dir(base)->fd, name, 0) == 0) return STRATAKV_OK;
  return skv_posix_error(err, "remove", name, errno);
}

/* EPERM: a file system without links, or a file that is not ours to link. */
static bool posix_no_link(int number) {
  return number == EXDEV || number == EPERM || number == EACCES ||
         number == EMLINK || number == EOPNOTSUPP || number == ENOSYS;
}

int skv_posix_dir_link(skv_dir *from_dir, const char *from, skv_dir *to_dir,
                       const char *to, skv_err *err) {
  int at = posix_dir(from_dir)->fd;
  if (linkat(at, from, posix_dir(to_dir)->fd, to, 0) == 0) return STRATAKV_OK;
  int number = errno;
  int rc = skv_posix_error(err, "link", from, number);
  if (posix_no_link(number)) rc = STRATAKV_CANTOPEN;
  if (err) err->code = rc;
  return rc;
}

/* By its name in the directory above, if that still is this directory. */
int skv_posix_dir_remove(skv_dir *base, skv_err *err) {
  skv_posix_dir *dir = posix_dir(base);
  char path[4096];
  struct stat mine, named;
  int rc = posix_canonical(dir, err, path);
  if (rc != STRATAKV_OK) return rc;
  const char *name = strrchr(path, '/') + 1;
  int fd = skv_posix_openat(dir->fd, "..", O_PATH | O_DIRECTORY, 0);
  if (fd < 0) return skv_posix_error(err, "remove", path, errno);
  if (fstat(dir->fd, &mine) != 0 ||
      fstatat(fd, name, &named, AT_SYMLINK_NOFOLLOW) != 0) {
    rc = skv_posix_error(err, "remove", path, errno);
  } else if (mine.st_dev != named.st_dev || mine.st_ino != named.st_ino) {
    rc = SKV_ERROR(err, STRATAKV_NOTFOUND, "\"%s\" was moved", path);
  } else if (unlinkat(fd, name, AT_REMOVEDIR) != 0) {
    rc = skv_posix_error(err, "remove", path, errno);
  }
  close(fd);
  return rc;
}
