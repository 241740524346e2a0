//! Waiting: a process starts whether its neighbours are there or not, serves what it can, and says whom it waits for.

use std::collections::BTreeSet;
use std::time::Duration;

/// After the first look it looks again so soon, then after twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Looks at the neighbours until all of them are there. Each one that is not is named once, and once when it has come. `look`
/// gives each one's name, and what is wrong with it.
pub(super) async fn wait<F>(look: impl Fn() -> F)
where
    F: Future<Output = Vec<(&'static str, Result<(), String>)>>,
{
    let (mut named, mut here) = (BTreeSet::new(), BTreeSet::new());
    let mut pause = FIRST_PAUSE;
    loop {
        let looked = look().await;
        for (neighbour, found) in &looked {
            match found {
                Err(why) if !here.contains(neighbour) && named.insert(*neighbour) => {
                    tracing::warn!(r#type = "waiting", neighbour, "waiting for {neighbour}: {why}");
                }
                Ok(()) if here.insert(*neighbour) && named.contains(neighbour) => {
                    tracing::info!(r#type = "waiting", neighbour, "{neighbour} is there");
                }
                _ => {}
            }
        }
        if looked.iter().all(|(neighbour, _)| here.contains(neighbour)) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn it_waits_until_each_neighbour_was_there_once() {
        let gone = || Err("refused".to_owned());
        let looks = vec![
            vec![("a", gone()), ("b", Ok(()))],
            vec![("a", gone()), ("b", gone())],
            vec![("a", Ok(())), ("b", gone())],
        ];
        let looks = Mutex::new(looks.into_iter());
        let look = || async { looks.lock().unwrap().next().expect("there is nobody to wait for") };
        wait(look).await;
        assert_eq!(looks.lock().unwrap().len(), 0);
    }
}
