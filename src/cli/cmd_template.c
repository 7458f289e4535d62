/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_template.c: `lbrx template`: text/chat.h on a conversation in JSON. */
#include "base/os.h"
#include "cli/cli.h"
#include "text/chat.h"
#include <stdio.h>

#define INPUT_MAX (64 * LB_MIB)

typedef struct template_opts {
    const char *input, *kwargs, *name;
    bool no_generation_prompt;
} template_opts;

static const lb_opt rows[] = {
    {.name = "input",
     .kind = LB_OPT_PATH,
     .arg = "FILE.json",
     .help = "the conversation: {\"messages\": [...], \"tools\": [...], ...}; without it stdin",
     .off = offsetof(template_opts, input)},
    {.name = "no-generation-prompt",
     .kind = LB_OPT_FLAG,
     .help = "end after the last message: add_generation_prompt is false",
     .off = offsetof(template_opts, no_generation_prompt)},
    {.name = "kwargs",
     .kind = LB_OPT_STR,
     .arg = "JSON",
     .help = "more variables of the template: an object, such as {\"enable_thinking\": false}",
     .off = offsetof(template_opts, kwargs)},
    {.name = "name",
     .kind = LB_OPT_STR,
     .arg = "NAME",
     .help = "one of a model's named templates; without it tool_use when there are tools, else "
             "default",
     .off = offsetof(template_opts, name)},
};

static lb_status read_stdin(lb_arena *a, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    lb_status st = LB_OK;
    for (size_t n = 1; n && st == LB_OK;) {
        if (b.len > INPUT_MAX)
            st = lb_fail(err, LB_E_LIMIT, "stdin: more than %llu MiB",
                         (unsigned long long)(INPUT_MAX / LB_MIB));
        else if (!lb_buf_reserve(&b, 64 * 1024))
            st = lb_fail(err, LB_E_NOMEM, "stdin: out of memory");
        else
            b.len += n = fread(b.ptr + b.len, 1, 64 * 1024, stdin);
    }
    if (st == LB_OK && ferror(stdin))
        st = lb_fail(err, LB_E_IO, "stdin: cannot be read");
    if (st == LB_OK) {
        *out = lb_arena_str(a, lb_buf_str(&b));
        if (!out->ptr)
            st = lb_fail(err, LB_E_NOMEM, "stdin: out of memory");
    }
    lb_buf_deinit(&b);
    return st;
}

static lb_status read_input(lb_cli *cli, const template_opts *o, lb_chat_input *in, lb_err *err) {
    const char *what = o->input ? o->input : "stdin";
    lb_json *request, *kwargs;
    lb_str text;
    if (o->input)
        LB_TRY(lb_os_read_file(o->input, INPUT_MAX, &cli->arena, &text, err));
    else
        LB_TRY(read_stdin(&cli->arena, &text, err));
    LB_TRY(lb_json_parse(text, what, &cli->arena, &request, err));
    lb_status st = lb_chat_input_from_json(request, &cli->arena, in, err);
    if (st != LB_OK) {
        lb_err_context(err, "%s", what);
        return st;
    }
    if (o->no_generation_prompt)
        in->generation_prompt = false;
    in->name = o->name;
    if (!o->kwargs)
        return LB_OK;
    LB_TRY(lb_json_parse(lb_str_c(o->kwargs), "--kwargs", &cli->arena, &kwargs, err));
    if (kwargs->type != LB_JOBJECT)
        return lb_fail(err, LB_E_USAGE, "template: --kwargs: a JSON object is expected");
    return lb_chat_input_add(in, kwargs, &cli->arena, err);
}

static lb_status open_chat(const lb_cli *cli, lb_chat **out, const char *arg, lb_err *err) {
    lb_source *s = NULL;
    lb_arena a = {0};
    lb_str text;
    lb_fstat info;
    lb_status st;
    bool file = lb_str_ends(lb_str_c(arg), LB_STR(".jinja")) ||
                lb_str_ends(lb_str_c(arg), LB_STR(".jinja2"));
    if (file && lb_os_stat(arg, &info, NULL) == LB_OK && !info.is_dir) {
        st = lb_os_read_file(arg, INPUT_MAX, &a, &text, err);
        if (st == LB_OK)
            st = lb_chat_from_text(out, text, arg, err);
    } else {
        st = lb_cli_open(cli, NULL, &s, arg, err);
        if (st == LB_OK)
            st = lb_chat_open(out, s, err);
        lb_source_close(&s);
    }
    lb_arena_deinit(&a);
    return st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    const template_opts *o = opts;
    lb_chat *chat = NULL;
    lb_chat_input in;
    (void)n_args;
    lb_status st = open_chat(cli, &chat, args[0], err);
    if (st == LB_OK)
        st = read_input(cli, o, &in, err);
    if (st == LB_OK)
        st = lb_chat_render(chat, &in, NULL, &cli->out, err);
    lb_chat_close(&chat);
    return st;
}

const lb_command lb_cmd_template = {
    .name = "template",
    .summary = "Renders a conversation with a chat template: the exact text that a model reads.",
    .args = "MODEL|FILE.jinja",
    .examples = {{"what a model gets to read", "lbrx template model/ --input chat.json"},
                 {"a template by itself, with a variable of its own",
                  "lbrx template chat_template.jinja --input chat.json --kwargs "
                  "'{\"enable_thinking\": false}'"}},
    .details = "The input holds \"messages\" and may hold \"tools\", \"documents\", "
               "\"add_generation_prompt\" and any other variables of the template. The text is "
               "written byte for byte, without a line end of its own. What a template raises "
               "(raise_exception) ends with exit code 3 and its message; a limit on steps, depth, "
               "memory or output that a template hits ends with exit code 4.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0)},
    .size_bytes = sizeof(template_opts),
    .run = run,
};
