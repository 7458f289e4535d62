/* SPDX-License-Identifier: Apache-2.0 */
/* session.h: a conversation with a model: messages, answers, what is set. What a terminal or a pipe
 * makes of it is chat.c's. */
#ifndef LB_CLI_SESSION_H
#define LB_CLI_SESSION_H

#include "cli/drafting.h"
#include "cli/sampling.h"
#include "cli/talk.h"
#include "cli/thought.h"

typedef struct lb_turn {
    bool stopped, interrupted; /* neither: by its length */
    bool left_out;             /* more of the conversation than before */
    u32 n_kept, n_read, n_written;
    u64 read_us, write_us;
} lb_turn;

typedef struct lb_session {
    const lb_common *common;
    lb_infer x;
    lb_talk talk;
    lb_drafting drafting;
    lb_sampling_opts options; /* as they are set now; texts in `texts` */
    lb_arena texts;
    lb_sampling sampling;
    lb_arena arena; /* of the messages */
    lb_json *messages;
    u64 n_answers;  /* each has random numbers of its own */
    bool shifts;    /* a conversation that is too long is read without its oldest messages */
    u64 n_left_out; /* so many are (behind the system's) */
    u32 n_max;      /* tokens of an answer; 0: as many as there is room for */
    lb_turn last;
    lb_buf shown;          /* ids of special tokens that are marks of thoughts */
    lb_thought thought;    /* of the answer that comes, or came last */
    lb_thought_show *show; /* what comes, as it comes; may be NULL */
    void *user;
} lb_session;

/* s->x is open with a tokenizer and a context; talk and options are set. */
lb_status lb_session_begin(lb_session *s, const char *system, lb_err *err);
void lb_session_end(lb_session *s);

/* A user's message, and its answer. What fails leaves the conversation as it was. Interrupted: what
 * came until then is the answer; if that is nothing, the message goes too. */
lb_status lb_session_say(lb_session *s, lb_str text, lb_err *err);
/* The last answer once more, another one. LB_E_USAGE: there is none. */
lb_status lb_session_again(lb_session *s, lb_err *err);
/* Forgets the last message of the user, and what came after. LB_E_USAGE: there is none. */
lb_status lb_session_undo(lb_session *s, lb_err *err);
/* Forgets all messages but the system's. */
lb_status lb_session_clear(lb_session *s, lb_err *err);
/* Sets the system message; empty: none. LB_E_FORMAT: what the template says against it. *heard:
 * whether it stands in what the model reads. */
lb_status lb_session_system(lb_session *s, lb_str text, bool *heard, lb_err *err);
lb_str lb_session_system_text(const lb_session *s);
/* {"messages": [...]} of a file, or a saved session, with what the model has read of it; and into
 * one, which is replaced as a whole: a saved session where the name ends in .session. */
lb_status lb_session_load(lb_session *s, const char *path, lb_err *err);
lb_status lb_session_save(const lb_session *s, const char *path, lb_err *err);
/* The same, whatever its name. */
lb_status lb_session_save_all(const lb_session *s, const char *path, lb_err *err);
/* An option of sampling; value NULL: its default. What fails leaves all as it was. */
lb_status lb_session_set(lb_session *s, const char *name, const char *value, lb_err *err);
/* Appends "name value" lines. */
void lb_session_put_options(const lb_session *s, lb_buf *out);
u64 lb_session_n_messages(const lb_session *s);
/* The messages become a copy of the first n of a list, in memory of their own: what is forgotten is
 * freed. */
lb_status lb_session_replace(lb_session *s, const lb_json *list, u64 n, lb_err *err);

#endif
