use xiio::task_group;

#[xiio::main]
async fn main() {
    let mut text = Some(String::from("moved"));
    loop {
        task_group!(|tg| {
            let Some(text) = text.take() else { break };
            tg.spawn(async move { drop(text) });
        });
    }
}
