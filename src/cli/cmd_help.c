/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_help.c: `lbrx help [COMMAND]` and `lbrx completion SHELL`: texts made from the tables. */
#include "cli/cli.h"

typedef struct help_opts {
    u32 format; /* hidden: what `make docs` calls */
} help_opts;

enum { FORMAT_TEXT, FORMAT_MD, FORMAT_MAN };

static const lb_opt help_rows[] = {
    {.name = "format",
     .kind = LB_OPT_ENUM,
     .arg = "text|md|man",
     .initial = "text",
     .help = "form of the text",
     .hidden = true,
     .off = offsetof(help_opts, format)},
};

/* "lora fuse" may come as one word or two. */
static const lb_command *find_named(const lb_cli *cli, const char *const *args, u32 n_args) {
    for (u32 i = 0; i < cli->n_commands; i++) {
        const lb_command *c = cli->commands[i];
        size_t n = strlen(args[0]);
        if (n_args == 1 ? strcmp(c->name, args[0]) == 0
                        : strncmp(c->name, args[0], n) == 0 && c->name[n] == ' ' &&
                              strcmp(c->name + n + 1, args[1]) == 0)
            return c;
    }
    return NULL;
}

static lb_status help_run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                          lb_err *err) {
    const help_opts *o = opts;
    if (o->format == FORMAT_MD) {
        lb_help_markdown(&cli->out, cli->commands, cli->n_commands);
    } else if (o->format == FORMAT_MAN) {
        lb_help_man(&cli->out, cli->commands, cli->n_commands);
    } else if (n_args == 0) {
        lb_help_all(&cli->out, cli->commands, cli->n_commands);
    } else {
        const lb_command *c = find_named(cli, args, n_args);
        if (!c && n_args == 1 && lb_help_verbs(&cli->out, cli->commands, cli->n_commands, args[0]))
            return LB_OK;
        if (!c)
            return lb_fail(err, LB_E_USAGE, "help: no command '%s%s%s': 'lbrx help' lists them",
                           args[0], n_args > 1 ? " " : "", n_args > 1 ? args[1] : "");
        lb_help_command(&cli->out, c);
    }
    return LB_OK;
}

const lb_command lb_cmd_help = {
    .name = "help",
    .summary = "Shows the commands, or one of them.",
    .args = "[COMMAND]",
    .examples = {{"list the commands", "lbrx help"},
                 {"the options of one", "lbrx help inspect"},
                 {"the same", "lbrx inspect --help"}},
    .n_args_max = 2,
    .group = {{.title = "Options", .opts = help_rows, .n = LB_LEN(help_rows)}},
    .size_bytes = sizeof(help_opts),
    .run = help_run,
};

static lb_status completion_run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                                lb_err *err) {
    (void)opts;
    (void)n_args;
    if (strcmp(args[0], "bash") == 0)
        lb_complete_bash(&cli->out, cli->commands, cli->n_commands);
    else if (strcmp(args[0], "zsh") == 0)
        lb_complete_zsh(&cli->out, cli->commands, cli->n_commands);
    else if (strcmp(args[0], "fish") == 0)
        lb_complete_fish(&cli->out, cli->commands, cli->n_commands);
    else
        return lb_fail(err, LB_E_USAGE, "completion: '%s' is not one of bash|zsh|fish", args[0]);
    return LB_OK;
}

const lb_command lb_cmd_completion = {
    .name = "completion",
    .summary = "Prints the completion script of a shell.",
    .args = "bash|zsh|fish",
    .examples = {{"bash, in ~/.bashrc", "source <(lbrx completion bash)"},
                 {"zsh, into a folder of $fpath", "lbrx completion zsh >~/.zfunc/_lbrx"},
                 {"fish, in config.fish", "lbrx completion fish | source"}},
    .n_args_min = 1,
    .n_args_max = 1,
    .run = completion_run,
};
