/*
 * What the shared library stratakv.so exports, and nothing else.
 *
 * Load it with sqlite3_load_extension or `.load ./stratakv`; a program that
 * links it calls stratakv_allow_root for the directories whose stores its
 * connections may open without having created them.
 */
#ifndef STRATAKV_EXTENSION_H
#define STRATAKV_EXTENSION_H

#include <sqlite3.h>

#include "stratakv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The entry point; the core calls it. */
STRATAKV_API int sqlite3_stratakv_init(sqlite3 *db, char **pzErrMsg,
                                       const struct sqlite3_api_routines *pApi);

/*
 * Let this connection open any store at or below directory `root`, as SELECT
 * stratakv_allow_root(root) does. The extension must have been loaded into the
 * connection.
 *
 * SQLITE_OK        granted until the connection closes
 * SQLITE_CANTOPEN  there is no such directory
 * SQLITE_MISUSE    the extension is not loaded into db
 * SQLITE_NOMEM
 */
STRATAKV_API int stratakv_allow_root(sqlite3 *db, const char *root);

#ifdef __cplusplus
}
#endif
#endif /* STRATAKV_EXTENSION_H */
