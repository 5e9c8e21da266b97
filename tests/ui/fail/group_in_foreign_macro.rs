use xiio::task_group;

/// Its arguments do not look like expressions, so what is in them cannot be rewritten.
macro_rules! when {
    ($condition:ident then $action:stmt) => {
        if $condition {
            $action
        }
    };
}

async fn leaving(late: bool) -> i32 {
    task_group!(|tg| {
        tg.spawn(async {});
        when!(late then return 1);
    });
    2
}

fn main() {
    xiio::run(leaving(true));
}
