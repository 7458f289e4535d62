/* SPDX-License-Identifier: Apache-2.0 */
/* chat_commands.c: what a line that begins with a slash does. */
#include "cli/chat_ui.h"
#include <stdio.h>

typedef lb_status command_fn(lb_chat_ui *u, const char *arg, lb_err *err);

typedef struct command {
    const char *name, *arg, *help;
    command_fn *run;
} command;

static command_fn help, clear, system_message, again, undo, save, load, set, timings, leave;

static const command commands[] = {
    {"/help", "", "this list", help},
    {"/clear", "", "forgets the conversation; the system message stays", clear},
    {"/reset", NULL, NULL, clear},
    {"/system", "TEXT", "the system message from now on; without a text: what it is; - for none",
     system_message},
    {"/regen", "", "another answer in place of the last", again},
    {"/undo", "", "takes back the last message and its answer", undo},
    {"/save", "FILE",
     "writes the conversation as JSON: {\"messages\": [...]}; FILE.session: with what the model "
     "has "
     "read of it",
     save},
    {"/load", "FILE", "goes on with the conversation of such a file", load},
    {"/set", "NAME VALUE",
     "an option of sampling (temp, top-k, stop, grammar...); without a value its default; without "
     "a name: all of them",
     set},
    {"/timings", "on|off", "how fast the last answer came; on: after each", timings},
    {"/exit", "", "leaves, as does ctrl-D", leave},
    {"/quit", NULL, NULL, leave},
};

const char *const lb_chat_words[] = {"/help", "/clear", "/reset", "/system", "/regen",
                                     "/undo", "/save",  "/load",  "/set",    "/timings",
                                     "/exit", "/quit",  NULL};

static lb_status help(lb_chat_ui *u, const char *arg, lb_err *err) {
    lb_buf line = {0};
    lb_status st = LB_OK;
    (void)arg;
    for (u32 i = 0; i < LB_LEN(commands) && st == LB_OK; i++) {
        const command *c = &commands[i];
        if (!c->help)
            continue;
        lb_buf_reset(&line);
        lb_buf_printf(&line, "%-8s %-10s  %s", c->name, c->arg, c->help);
        st = lb_buf_status(&line, err);
        lb_chat_remark_text(u, lb_buf_str(&line), 21);
    }
    lb_buf_deinit(&line);
    lb_chat_remark(u, "A message that begins with a slash is written with two. A backslash at the "
                      "end of a line, alt-Enter or a paste makes a message of several lines.");
    if (u->terminal)
        lb_chat_remark(u, "ctrl-C stops an answer; at the prompt it clears the line, and twice "
                          "leaves.");
    return st;
}

static lb_status clear(lb_chat_ui *u, const char *arg, lb_err *err) {
    (void)arg;
    LB_TRY(lb_session_clear(u->s, err));
    lb_chat_remark(u, "[the conversation is forgotten]");
    return LB_OK;
}

static lb_status system_message(lb_chat_ui *u, const char *arg, lb_err *err) {
    bool heard;
    lb_str now = lb_session_system_text(u->s);
    if (!*arg) {
        lb_chat_remark_text(u, now.len ? now : LB_STR("[there is no system message]"), 0);
        return LB_OK;
    }
    LB_TRY(lb_session_system(u->s, lb_str_c(strcmp(arg, "-") == 0 ? "" : arg), &heard, err));
    if (!heard)
        lb_chat_remark(u, "[the model's template leaves system messages out: it will not read it]");
    return LB_OK;
}

static lb_status again(lb_chat_ui *u, const char *arg, lb_err *err) {
    (void)arg;
    return lb_chat_answer(u, NULL, err);
}

static lb_status undo(lb_chat_ui *u, const char *arg, lb_err *err) {
    (void)arg;
    LB_TRY(lb_session_undo(u->s, err));
    lb_chat_remark(u, "[taken back: %llu messages are left]",
                   (unsigned long long)lb_session_n_messages(u->s));
    return LB_OK;
}

static lb_status save(lb_chat_ui *u, const char *arg, lb_err *err) {
    if (!*arg)
        return lb_fail(err, LB_E_USAGE, "/save: a FILE is needed");
    LB_TRY(lb_session_save(u->s, arg, err));
    lb_chat_remark(u, "[%llu messages are in %s]", (unsigned long long)lb_session_n_messages(u->s),
                   arg);
    return LB_OK;
}

static lb_status load(lb_chat_ui *u, const char *arg, lb_err *err) {
    if (!*arg)
        return lb_fail(err, LB_E_USAGE, "/load: a FILE is needed");
    LB_TRY(lb_session_load(u->s, arg, err));
    lb_chat_remark(u, "[%llu messages from %s]", (unsigned long long)lb_session_n_messages(u->s),
                   arg);
    return LB_OK;
}

static lb_status set(lb_chat_ui *u, const char *arg, lb_err *err) {
    char name[64];
    const char *value = strchr(arg, ' ');
    size_t n = value ? (size_t)(value - arg) : strlen(arg);
    lb_buf text = {0};
    if (n) {
        (void)snprintf(name, sizeof name, "%.*s", (int)LB_MIN(n, sizeof name - 1), arg);
        while (value && *value == ' ')
            value++;
        return lb_session_set(u->s, name, value && *value ? value : NULL, err);
    }
    lb_session_put_options(u->s, &text);
    lb_status st = lb_buf_status(&text, err);
    lb_chat_remark_text(u, lb_str_sub(lb_buf_str(&text), 0, text.len - (text.len > 0)), 23);
    lb_buf_deinit(&text);
    return st;
}

static lb_status timings(lb_chat_ui *u, const char *arg, lb_err *err) {
    const bool on = strcmp(arg, "on") == 0;
    if (*arg && !on && strcmp(arg, "off") != 0)
        return lb_fail(err, LB_E_USAGE, "/timings: '%s' is not one of on|off", arg);
    if (*arg)
        u->timings = on;
    else if (u->s->last.n_read + u->s->last.n_kept)
        lb_chat_put_timings(u);
    else
        lb_chat_remark(u, "[there is no answer yet]");
    return LB_OK;
}

static lb_status leave(lb_chat_ui *u, const char *arg, lb_err *err) {
    (void)arg;
    (void)err;
    u->leaves = true;
    return LB_OK;
}

static lb_status unknown(const char *word, lb_err *err) {
    const char *best = NULL;
    u32 least = UINT32_MAX, d;
    for (u32 i = 0; i < LB_LEN(commands); i++)
        if (lb_is_near(word, commands[i].name, &d) && d < least) {
            best = commands[i].name;
            least = d;
        }
    return lb_fail(err, LB_E_USAGE, "there is no command %s%s%s: /help lists them", word,
                   best ? "; did you mean " : "", best ? best : "");
}

static lb_status run_command(lb_chat_ui *u, const char *line, lb_err *err) {
    char word[64];
    size_t n = strcspn(line, " \n");
    const char *arg = line + n;
    (void)snprintf(word, sizeof word, "%.*s", (int)LB_MIN(n, sizeof word - 1), line);
    while (*arg == ' ' || *arg == '\n')
        arg++;
    for (u32 i = 0; i < LB_LEN(commands); i++)
        if (strcmp(word, commands[i].name) == 0) {
            if (commands[i].arg && !*commands[i].arg && *arg)
                return lb_fail(err, LB_E_USAGE, "%s takes nothing behind it", word);
            return commands[i].run(u, arg, err);
        }
    return unknown(word, err);
}

/* A text with a NUL at its end, without blanks there. */
static lb_str trimmed(lb_arena *a, lb_str s) {
    while (s.len && strchr(" \t\r\n", s.ptr[s.len - 1]) && s.ptr[s.len - 1])
        s.len--;
    return lb_arena_str(a, s);
}

lb_status lb_chat_take(lb_chat_ui *u, lb_str line, lb_err *err) {
    lb_arena a = {0};
    lb_str text = trimmed(&a, line);
    lb_status st = LB_OK;
    if (!text.ptr) {
        st = lb_fail(err, LB_E_NOMEM, "out of memory for a message");
    } else if (text.len && text.ptr[0] == '/' && !(text.len > 1 && text.ptr[1] == '/')) {
        lb_err why = {0};
        st = run_command(u, text.ptr, &why);
        if (st == LB_E_INTERRUPTED || (st == LB_E_IO && u->s->last.interrupted)) {
            *err = why;
        } else if (st != LB_OK) {
            lb_chat_tell(u, st, &why);
            st = LB_OK;
        }
    } else if (text.len) {
        if (text.ptr[0] == '/')
            line = lb_str_sub(line, 1, line.len);
        st = lb_chat_answer(u, &line, err);
    }
    lb_arena_deinit(&a);
    return st;
}
