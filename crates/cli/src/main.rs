//! The `alluvium` program: arguments in, exit code out.
//!
//! Modules: `args` what may be typed; `driver` one statement from text to printed result; `script` files,
//! `-c` and standard input; `repl` the prompt; `slt` test files; `print` results as text; `report`
//! everything on standard error; `engine` what is used of the engine; `memory` the allocators. SQL is known to none of them.

mod args;
mod driver;
mod engine;
mod interrupt;
mod memory;
mod output;
mod print;
mod repl;
mod report;
mod script;
mod slt;

use std::io::IsTerminal;
use std::process::ExitCode;

use args::{Cli, Command};

fn main() -> ExitCode {
    memory::give_back();
    let cli = Cli::from_process();
    quiet_panics();
    let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    // Plans nest deeply, and each level is several frames: the default 2 MB ends sooner than a user's patience.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error[IO]: cannot start threads: {error}");
            return ExitCode::from(3);
        }
    };
    let code = match cli.command {
        Some(Command::Test(test)) => slt::run(&runtime, &test, &cli.common),
        Some(Command::Run { scripts }) => runtime.block_on(script::run_files(&cli.common, &scripts)),
        None if !cli.statements.is_empty() => runtime.block_on(script::run_command(&cli.common, &cli.statements)),
        None if std::io::stdin().is_terminal() => runtime.block_on(repl::run(&cli.common)),
        None => runtime.block_on(script::run_stdin(&cli.common)),
    };
    // A thread may still sit in a blocking read of standard input; nothing is owed to it.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// A panic ends as an INTERNAL error of its statement or stream; its own text and stack are for developers, who set
/// `ALLUVIUM_PANICS`.
fn quiet_panics() {
    if std::env::var_os("ALLUVIUM_PANICS").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
}
