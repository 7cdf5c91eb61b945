/*
 * Listeners: the addresses that the daemon is reached at, as sockets of its
 * own, so that what goes wrong can be said in a sentence.
 *
 * FORMS  host:port, [v6]:port, unix:/path. A unix socket has mode 0600; one
 *   that nobody serves any more is replaced, and ours is removed at the end.
 */
#ifndef SKVD_LISTEN_H
#define SKVD_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef struct skvd_listener {
  const char *text;                /* as given on the command line */
  char host[256];                  /* its host, without brackets */
  uint16_t port;                   /* the real one, once it is open */
  bool is_unix;                    /* unix:/path */
  bool is_loopback;                /* only this machine can reach it */
  bool is_wildcard;                /* every address of this machine */
  struct sockaddr_storage address; /* what is bound */
  socklen_t address_len;           /* its bytes */
  int fd;                          /* listening, or -1 */
  dev_t device;                    /* of the socket file that is ours */
  ino_t inode;
} skvd_listener;

/* The form that parse and open return. */
typedef enum skvd_listen_rc {
  SKVD_LISTEN_OK,
  SKVD_LISTEN_SYNTAX, /* the text is no address */
  SKVD_LISTEN_FAILED  /* the system refuses it */
} skvd_listen_rc;

/* Understand an address; names are resolved. `why` is a sentence on failure.
 * The listener borrows text and is not open. */
skvd_listen_rc skvd_listener_parse(const char *text, skvd_listener *out,
                                   char *why, size_t size);

/* Bind and listen, without blocking in accept. */
skvd_listen_rc skvd_listener_open(skvd_listener *listener, char *why,
                                  size_t size);

/* Close the socket if it is open, and remove our socket file. */
void skvd_listener_close(skvd_listener *listener);

/* "http://127.0.0.1:8080" or "unix:/path". */
void skvd_listener_name(const skvd_listener *listener, char *out, size_t size);

#endif
