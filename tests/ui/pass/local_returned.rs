use xiio::task_group;

async fn longest(words: &[String]) -> &str {
    task_group!(|tg| {
        tg.spawn(async {});
        let Some(word) = words.iter().max_by_key(|word| word.len()) else {
            return "";
        };
        return word;
    })
}

fn main() {
    let words = [String::from("a"), String::from("bc")];
    assert_eq!(xiio::run(longest(&words)), "bc");
}
