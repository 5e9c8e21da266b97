use xiio::task_group;

#[xiio::main]
async fn main() {
    let text = String::from("moved");
    for round in 0.. {
        task_group!(|tg| {
            if round == 3 {
                tg.spawn(async move { drop(text) });
                break;
            }
        });
    }
}
