/* The sockets of listen.h. */
#include "ext/httpd/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LISTEN_BACKLOG 128

static skvd_listen_rc listen_parse_unix(skvd_listener *out, char *why,
                                        size_t size) {
  const char *path = out->text + strlen("unix:");
  struct sockaddr_un *address = (struct sockaddr_un *)&out->address;
  if (path[0] != '/' || strlen(path) >= sizeof address->sun_path) {
    snprintf(why, size,
             "%s: a unix address is unix:/path, of at most %zu "
             "bytes",
             out->text, sizeof address->sun_path - 1);
    return SKVD_LISTEN_SYNTAX;
  }
  address->sun_family = AF_UNIX;
  strcpy(address->sun_path, path);
  out->address_len = sizeof *address;
  out->is_unix = true;
  out->is_loopback = true;
  return SKVD_LISTEN_OK;
}

static bool listen_parse_port(const char *text, uint16_t *out) {
  unsigned value = 0;
  const char *p = text;
  for (; *p >= '0' && *p <= '9' && p - text < 5; p++) {
    value = value * 10 + (unsigned)(*p - '0');
  }
  *out = (uint16_t)value;
  return p > text && *p == 0 && value <= 65535;
}

/* Split host:port or [host]:port. */
static bool listen_split(skvd_listener *out) {
  const char *text = out->text;
  const char *colon = strrchr(text, ':');
  size_t len;
  if (colon == NULL || !listen_parse_port(colon + 1, &out->port)) return false;
  len = (size_t)(colon - text);
  if (text[0] == '[') {
    if (len < 3 || text[len - 1] != ']') return false;
    text++;
    len -= 2;
  } else if (memchr(text, ':', len) != NULL) {
    return false;
  }
  if (len == 0 || len >= sizeof out->host) return false;
  memcpy(out->host, text, len);
  out->host[len] = 0;
  return true;
}

static void listen_classify(skvd_listener *out) {
  const struct sockaddr_in *v4 = (const struct sockaddr_in *)&out->address;
  const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&out->address;
  if (out->address.ss_family == AF_INET) {
    uint32_t address = ntohl(v4->sin_addr.s_addr);
    out->is_loopback = address >> 24 == 127;
    out->is_wildcard = address == INADDR_ANY;
  } else {
    out->is_loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    out->is_wildcard = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
  }
}

static skvd_listen_rc listen_resolve(skvd_listener *out, char *why,
                                     size_t size) {
  struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                           .ai_family = AF_UNSPEC,
                           .ai_socktype = SOCK_STREAM};
  struct addrinfo *found = NULL;
  char port[8];
  int rc;
  snprintf(port, sizeof port, "%u", out->port);
  rc = getaddrinfo(out->host, port, &hints, &found);
  if (rc != 0) {
    snprintf(why, size, "%s: %s", out->text, gai_strerror(rc));
    return SKVD_LISTEN_FAILED;
  }
  memcpy(&out->address, found->ai_addr, found->ai_addrlen);
  out->address_len = found->ai_addrlen;
  freeaddrinfo(found);
  listen_classify(out);
  return SKVD_LISTEN_OK;
}

skvd_listen_rc skvd_listener_parse(const char *text, skvd_listener *out,
                                   char *why, size_t size) {
  memset(out, 0, sizeof *out);
  out->text = text;
  out->fd = -1;
  if (strncmp(text, "unix:", 5) == 0) {
    return listen_parse_unix(out, why, size);
  }
  if (!listen_split(out)) {
    snprintf(why, size,
             "%.200s: an address is host:port, [v6]:port or "
             "unix:/path",
             text);
    return SKVD_LISTEN_SYNTAX;
  }
  return listen_resolve(out, why, size);
}

static skvd_listen_rc listen_failed(const skvd_listener *listener, char *why,
                                    size_t size) {
  snprintf(why, size, "cannot listen on %s: %s", listener->text,
           strerror(errno));
  return SKVD_LISTEN_FAILED;
}

static const char *listen_path(const skvd_listener *listener) {
  return ((const struct sockaddr_un *)&listener->address)->sun_path;
}

/* Remove a socket file that nobody listens on. Anything else stays, and
 * makes bind fail. */
static void listen_remove_stale(const skvd_listener *listener) {
  struct stat status;
  int fd;
  if (lstat(listen_path(listener), &status) != 0 || !S_ISSOCK(status.st_mode)) {
    return;
  }
  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return;
  if (connect(fd, (const struct sockaddr *)&listener->address,
              listener->address_len) != 0 &&
      errno == ECONNREFUSED) {
    unlink(listen_path(listener));
  }
  close(fd);
}

static int listen_bind(const skvd_listener *listener) {
  const struct sockaddr *address = (const struct sockaddr *)&listener->address;
  mode_t mask;
  int rc, saved;
  if (!listener->is_unix) {
    return bind(listener->fd, address, listener->address_len);
  }
  listen_remove_stale(listener);
  mask = umask(0177); /* from its first moment on the file is 0600 */
  rc = bind(listener->fd, address, listener->address_len);
  saved = errno;
  umask(mask);
  errno = saved;
  return rc;
}

/* What is known only after bind: the port, the socket file. */
static void listen_note_bound(skvd_listener *listener) {
  struct sockaddr_storage bound;
  socklen_t len = sizeof bound;
  struct stat status;
  if (listener->is_unix) {
    if (lstat(listen_path(listener), &status) == 0) {
      listener->device = status.st_dev;
      listener->inode = status.st_ino;
    }
    return;
  }
  if (getsockname(listener->fd, (struct sockaddr *)&bound, &len) != 0) return;
  /* The port is at the same place in both families. */
  listener->port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
}

skvd_listen_rc skvd_listener_open(skvd_listener *listener, char *why,
                                  size_t size) {
  int on = 1;
  int family = listener->address.ss_family;
  listener->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener->fd < 0) return listen_failed(listener, why, size);
  if (!listener->is_unix) {
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  if (family == AF_INET6) {
    setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (listen_bind(listener) != 0) return listen_failed(listener, why, size);
  listen_note_bound(listener);
  if (listen(listener->fd, LISTEN_BACKLOG) != 0) {
    return listen_failed(listener, why, size);
  }
  return SKVD_LISTEN_OK;
}

void skvd_listener_close(skvd_listener *listener) {
  struct stat status;
  if (listener->fd >= 0) close(listener->fd);
  listener->fd = -1;
  if (listener->inode != 0 && lstat(listen_path(listener), &status) == 0 &&
      status.st_dev == listener->device && status.st_ino == listener->inode) {
    unlink(listen_path(listener));
  }
  listener->inode = 0;
}

void skvd_listener_name(const skvd_listener *listener, char *out, size_t size) {
  bool is_v6 = strchr(listener->host, ':') != NULL;
  if (listener->is_unix) {
    snprintf(out, size, "%s", listener->text);
  } else {
    snprintf(out, size, "http://%s%s%s:%u", is_v6 ? "[" : "", listener->host,
             is_v6 ? "]" : "", listener->port);
  }
}
