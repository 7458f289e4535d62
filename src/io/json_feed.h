/* SPDX-License-Identifier: Apache-2.0 */
/* json_feed.h: the pull reader over a file of any size, through a window that moves; and a copy of
 * the text on the way, with parts cut out. */
#ifndef LB_IO_JSON_FEED_H
#define LB_IO_JSON_FEED_H

#include "io/cur.h"
#include "io/json.h"

typedef struct lb_json_feed {
    lb_json_reader r; /* raw of a token is good until the next one */
    lb_cur *c;
    u8 *window;
    size_t cap;
    bool owned, at_end; /* at_end: the window reaches to the end of the file */
    lb_buf *copy;       /* NULL: none */
    u64 copied;         /* place in the file up to which text was copied or cut */
    bool cutting;
} lb_json_feed;

/* From the cursor's place to its end; a cursor over memory is read where it is. copy (may be NULL)
 * gets all that is read and not cut, once lb_json_feed_next has given LB_JSON_END. */
lb_status lb_json_feed_open(lb_json_feed *f, lb_cur *c, lb_buf *copy, lb_err *err);
void lb_json_feed_close(lb_json_feed *f);
lb_status lb_json_feed_next(lb_json_feed *f, lb_json_tok *tok, lb_err *err);
/* Consumes the rest of a value whose first token was tok. */
lb_status lb_json_feed_finish(lb_json_feed *f, lb_json_tok tok, lb_err *err);
/* Text from here on is cut out until lb_json_feed_cut_end; what lies between the last
 * lb_json_feed_cut before that and it is copied after all. */
void lb_json_feed_cut(lb_json_feed *f);
void lb_json_feed_cut_end(lb_json_feed *f);
/* Place in the file behind the last token. */
static inline u64 lb_json_feed_pos(const lb_json_feed *f) {
    return f->r.off_base + f->r.pos;
}

#endif
