/*
 * Admission: what is decided about a request when its head is complete.
 *
 * ORDER  framing, target, X-Request-Id, stopping, Host and Origin, route,
 *   method, parameters, body. The first problem is the answer.
 *
 * URGENCY  An answer that is given before the body is read closes the
 *   connection, and the client may not see it. So a refusal waits for the
 *   end of the body and throws it away, unless the head is broken (where the
 *   request ends is then unknown), the client waits for 100 Continue, or the
 *   body is large.
 */
#ifndef SKVD_ADMISSION_H
#define SKVD_ADMISSION_H

#include "ext/httpd/request.h"

/* Judge the head; request->headers is filled. With a refusal the request
 * has an answer, and is_urgent says when to send it; else route, action and
 * framing are set. */
void skvd_admit(skvd_request *request, const char *method, const char *version,
                size_t head_size);

#endif
